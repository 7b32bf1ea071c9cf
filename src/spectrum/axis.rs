//! The scales on which eigenvalues are drawn, and where their ticks are.

use crate::spectrum::snapshot::{ProbeRecord, Snapshot};
use serde::{Deserialize, Serialize};

/// Magnitudes that a symmetric-log axis shows at most, below the largest, where noise does not end it before.
const DECADES: f64 = 1e-8;
/// Powers of ten at an axis that need nothing between them.
const ENOUGH: usize = 4;

/// A scale on which eigenvalues are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// The eigenvalue itself.
    Linear,
    /// asinh(λ/(2·threshold)): logarithmic beyond the threshold, ln(|λ|/threshold), linear within it.
    SymmetricLog {
        /// Where one turns into the other.
        threshold: f64,
    },
}

impl Axis {
    /// A symmetric-log axis that suits a snapshot: down to the unresolved floor, eight decades at most.
    #[must_use]
    pub fn symmetric_log(snapshot: &Snapshot) -> Self {
        Self::symmetric_log_over([(snapshot.unresolved.floor, &snapshot.probes[..])])
    }

    /// One that suits several spectra, each with its floor: down to the median of their floors, eight decades below the
    /// largest magnitude of all at most.
    #[must_use]
    pub fn symmetric_log_over<'a>(spectra: impl IntoIterator<Item = (f64, &'a [ProbeRecord])>) -> Self {
        let mut overall = 0.0_f64;
        let mut thresholds: Vec<f64> = Vec::new();
        for (floor, probes) in spectra {
            let largest = largest_magnitude(probes);
            overall = overall.max(largest);
            let threshold = floor.clamp(DECADES * largest, largest);
            if threshold > 0.0 {
                thresholds.push(threshold);
            }
        }
        thresholds.sort_by(f64::total_cmp);
        let median = thresholds.get(thresholds.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
        let threshold = median.max(DECADES * overall);
        Self::SymmetricLog { threshold: if threshold > 0.0 { threshold } else { 1.0 } }
    }

    /// Where an eigenvalue stands.
    #[must_use]
    pub fn position(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::SymmetricLog { threshold } => (value / (2.0 * threshold)).asinh(),
        }
    }

    /// The eigenvalue that stands there.
    #[must_use]
    pub fn value(self, position: f64) -> f64 {
        match self {
            Self::Linear => position,
            Self::SymmetricLog { threshold } => 2.0 * threshold * position.sinh(),
        }
    }

    /// Eigenvalues between two positions at which to write a number, `most` at most, ascending: multiples of 1, 2 or 5
    /// times a power of ten; on a symmetric-log axis zero and powers of ten, with 2 and 5 between where there is room.
    #[must_use]
    pub fn ticks(self, low: f64, high: f64, most: usize) -> Vec<f64> {
        let most = most.max(2);
        if !(low < high && (high - low).is_finite()) {
            return Vec::new();
        }
        let largest = match self {
            Self::Linear => return linear_ticks(low, high, most),
            Self::SymmetricLog { .. } => self.value(low).abs().max(self.value(high).abs()),
        };
        let gap = (high - low) / most as f64;
        // Powers of ten from the largest down, those on one side being those on the other; then what lies between, where
        // there is room.
        let mut magnitudes = vec![0.0];
        for power in powers(largest) {
            let place = self.position(power);
            if magnitudes.iter().all(|other| (self.position(*other) - place).abs() >= gap) {
                magnitudes.push(power);
            }
        }
        let inside = |value: &f64| (low..=high).contains(&self.position(*value));
        let both = magnitudes.iter().flat_map(|&magnitude| [magnitude, -magnitude]).filter(inside);
        let mut kept: Vec<f64> = both.collect();
        if kept.len() < ENOUGH {
            for value in between(largest).flat_map(|magnitude| [magnitude, -magnitude]).filter(inside) {
                let place = self.position(value);
                if kept.iter().all(|other| (self.position(*other) - place).abs() >= gap) {
                    kept.push(value);
                }
            }
        }
        kept.sort_by(f64::total_cmp);
        // Zero is its own opposite.
        kept.dedup();
        kept
    }
}

fn linear_ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
    let least = (high - low) / most as f64;
    let power = 10_f64.powi(least.log10().floor() as i32);
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= least);
    let step = step.unwrap_or(least);
    let first = (low / step).ceil();
    // Through the index, so that zero is zero.
    (0..=most).map(|i| (first + i as f64) * step).filter(|tick| *tick <= high).collect()
}

/// Powers of ten, from the largest magnitude down. What is smaller falls together with zero.
fn powers(largest: f64) -> impl Iterator<Item = f64> {
    exponents(largest).map(|exponent| 10_f64.powi(exponent))
}

/// What else is easily read.
fn between(largest: f64) -> impl Iterator<Item = f64> {
    exponents(largest).flat_map(|exponent| [5.0, 2.0].map(|factor| factor * 10_f64.powi(exponent)))
}

fn exponents(largest: f64) -> impl Iterator<Item = i32> {
    let top = largest.log10().floor().clamp(-320.0, 308.0) as i32;
    (top - 20..=top).rev()
}

fn largest_magnitude(probes: &[ProbeRecord]) -> f64 {
    probes.iter().flat_map(|probe| &probe.nodes).fold(0.0, |largest: f64, node| largest.max(node.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_axis_is_monotonous_and_has_an_inverse(a in -1e6_f64..1e6, b in -1e6_f64..1e6, t in 1e-9_f64..1.0) {
            let axis = Axis::SymmetricLog { threshold: t };
            prop_assert!((axis.value(axis.position(a)) - a).abs() <= 1e-9 * a.abs().max(t));
            prop_assert_eq!(a < b, axis.position(a) < axis.position(b));
        }

        #[test]
        fn ticks_ascend_within_their_range_and_are_few(
            low in -1e3_f64..1e3, range in 1e-3_f64..1e3, most in 2..12_usize, log in any::<bool>(), t in 1e-9_f64..1.0
        ) {
            let axis = if log { Axis::SymmetricLog { threshold: t } } else { Axis::Linear };
            let ticks = axis.ticks(low, low + range, most);
            prop_assert!(ticks.len() <= most + 1);
            prop_assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]));
            let slack = 1e-9 * (low.abs() + range);
            let inside = low - slack..=low + range + slack;
            prop_assert!(ticks.iter().all(|&tick| inside.contains(&axis.position(tick))));
        }
    }

    #[test]
    fn a_wide_axis_has_powers_of_ten_and_a_narrow_one_what_lies_between() {
        let axis = Axis::SymmetricLog { threshold: 1e-3 };
        let reach = axis.position(500.0);
        let ticks = axis.ticks(-reach, reach, 9);
        assert!(ticks.contains(&0.0) && ticks.contains(&100.0) && ticks.contains(&-100.0), "{ticks:?}");
        let powers =
            |tick: &f64| *tick == 0.0 || (tick.abs().log10() - tick.abs().log10().round()).abs() < 1e-9;
        assert!(ticks.iter().all(powers), "{ticks:?}");
        let narrow = axis.ticks(axis.position(10.0), axis.position(60.0), 6);
        assert_eq!(narrow, [10.0, 20.0, 50.0]);
        assert_eq!(Axis::Linear.ticks(-0.1, 1.0, 6), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(Axis::Linear.ticks(1.0, 1.0, 6), Vec::<f64>::new());
        assert_eq!(axis.ticks(f64::NEG_INFINITY, 1.0, 6), Vec::<f64>::new());
    }

    #[test]
    fn the_axis_of_several_spectra_follows_the_median_of_their_floors() {
        let probe =
            |node: f64| vec![ProbeRecord { nodes: vec![node], weights: vec![1.0], ..ProbeRecord::default() }];
        let spectra = [(1e-2, probe(10.0)), (1e-4, probe(1.0)), (1e-3, probe(-20.0)), (0.0, probe(0.0))];
        let axis = Axis::symmetric_log_over(spectra.iter().map(|(floor, probes)| (*floor, &probes[..])));
        assert_eq!(axis, Axis::SymmetricLog { threshold: 1e-3 });
        assert_eq!(Axis::symmetric_log_over([]), Axis::SymmetricLog { threshold: 1.0 });
        let zero = probe(0.0);
        assert_eq!(Axis::symmetric_log_over([(0.0, &zero[..])]), Axis::SymmetricLog { threshold: 1.0 });
    }
}
