//! The spectral density as a TensorBoard histogram.
//!
//! # Axis
//! Eigenvalues span many decades and both signs, so the axis is symmetric-logarithmic:
//! x(λ) = sign(λ) · log₁₀(1 + |λ|/λ₀), linear for |λ| ≪ λ₀ and log₁₀(|λ|/λ₀) beyond. TensorBoard
//! overlays the steps of a run on one axis, so λ₀ may not follow the spectrum as it changes: it is a
//! constant of the log, the power of ten at or below 10⁻⁶ of the largest |Ritz value| of the log's
//! *first* snapshot. A process that resumes finds that snapshot in `snapshots.jsonl`; without that
//! file each process takes its own first. The tag's description tells λ₀.
//!
//! # Mass
//! Each Ritz value stands for a share (its quadrature weight, averaged over probe vectors) of the n
//! eigenvalues. A share is spread over \[x(λ − ε) − b, x(λ + ε) + b\], with ε the predicted error of the
//! products on its Ritz vector and b a quarter of a decade, by an Epanechnikov kernel, whose integral
//! over each bucket is exact and whose support is bounded: gaps in the spectrum stay gaps. What the
//! noise cannot tell from zero is thus as wide as the noise. Buckets are a tenth of a decade wide, with
//! edges at the same tenths at every step.

use crate::log::Record;
use crate::log::earlier::spectra;
use crate::spectrum::{ProbeRecord, Snapshot};
use std::f64::consts::LN_10;
use std::path::Path;

const BUCKETS_PER_DECADE: f64 = 10.0;
const BANDWIDTH: f64 = 0.25;
/// Decades between the largest |Ritz value| of the first snapshot and λ₀.
const DECADES: i32 = 6;
/// No spectrum in floating point that means anything reaches as far; it bounds the number of buckets.
const LIMIT: f64 = 40.0;
/// The heights of the logarithmic histogram start at so many eigenvalues.
const LEAST_COUNT: f64 = 0.01;

/// The axis x(λ) = sign(λ) · log₁₀(1 + |λ|/λ₀).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SymlogAxis {
    threshold: f64,
}

impl Default for SymlogAxis {
    fn default() -> Self {
        Self { threshold: 1.0 }
    }
}

impl SymlogAxis {
    /// The axis whose λ₀ is the power of ten at or below 10⁻⁶ of the snapshot's largest |Ritz value|;
    /// `None` where that is zero.
    #[must_use]
    pub fn of_snapshot(snapshot: &Snapshot) -> Option<Self> {
        let scale = snapshot.lambda_max.value.abs().max(snapshot.lambda_min.value.abs());
        if !(scale > 0.0 && scale.is_finite()) {
            return None;
        }
        let threshold = 10_f64.powi(scale.log10().floor() as i32 - DECADES);
        Some(Self { threshold: threshold.max(f64::MIN_POSITIVE) })
    }

    /// The axis of the first snapshot in a directory's `snapshots.jsonl`, if there is one.
    #[must_use]
    pub fn of_log(dir: &Path) -> Option<Self> {
        spectra(dir).find_map(|record| match record {
            Record::Snapshot(snapshot) => Self::of_snapshot(&snapshot),
            _ => None,
        })
    }

    /// λ₀, in units of eigenvalues.
    #[must_use]
    pub fn threshold(self) -> f64 {
        self.threshold
    }

    /// x(λ).
    #[must_use]
    pub fn position(self, eigenvalue: f64) -> f64 {
        let x = (eigenvalue.abs() / self.threshold).ln_1p() / LN_10;
        x.min(LIMIT).copysign(eigenvalue)
    }
}

/// `HistogramProto`: bucket i reaches from the limit before (for the first: `min`) to `limits[i]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) num: f64,
    pub(super) sum: f64,
    pub(super) sum_squares: f64,
    pub(super) limits: Vec<f64>,
    pub(super) counts: Vec<f64>,
}

impl Histogram {
    /// The number of eigenvalues in each bucket; together the `eigenvalues`, of which each of `probes` tells. `None`
    /// without quadrature mass.
    pub(super) fn density(eigenvalues: u64, probes: &[ProbeRecord], axis: SymlogAxis) -> Option<Self> {
        let first = -((LIMIT + 1.0) * BUCKETS_PER_DECADE) as i64;
        let mut counts = vec![0.0; 2 * first.unsigned_abs() as usize];
        let eigenvalues = eigenvalues as f64 / probes.len() as f64;
        for (node, error, weight) in probes.iter().flat_map(nodes) {
            let low = axis.position(node - error) - BANDWIDTH;
            let high = axis.position(node + error) + BANDWIDTH;
            let start = (low * BUCKETS_PER_DECADE).floor() as i64;
            let mut below = 0.0;
            for bucket in start.. {
                let up_to = kernel_integral(low, high, limit(bucket));
                if let Some(count) = usize::try_from(bucket - first).ok().and_then(|i| counts.get_mut(i)) {
                    *count += eigenvalues * weight * (up_to - below);
                }
                below = up_to;
                if up_to >= 1.0 {
                    break;
                }
            }
        }
        Self::from_counts(first, &counts)
    }

    /// The same buckets with heights log₁₀(1 + count / 0.01): the decades by which a bucket exceeds a
    /// hundredth of an eigenvalue, so that one outlier among a billion still shows.
    pub(super) fn logarithmic(&self) -> Self {
        let counts = self.counts.iter().map(|count| (count / LEAST_COUNT).ln_1p() / LN_10).collect();
        Self::with_moments(self.min, self.limits.clone(), counts)
    }

    fn from_counts(first: i64, counts: &[f64]) -> Option<Self> {
        let start = counts.iter().position(|&count| count > 0.0)?;
        let end = counts.iter().rposition(|&count| count > 0.0)?;
        let limits = (start..=end).map(|i| limit(first + i as i64)).collect();
        Some(Self::with_moments(limit(first + start as i64 - 1), limits, counts[start..=end].to_vec()))
    }

    fn with_moments(min: f64, limits: Vec<f64>, counts: Vec<f64>) -> Self {
        let half = 0.5 / BUCKETS_PER_DECADE;
        let moment =
            |power| limits.iter().zip(&counts).map(|(limit, count)| count * (limit - half).powi(power)).sum();
        let max = limits.last().copied().unwrap_or(min);
        let (num, sum, sum_squares) = (moment(0), moment(1), moment(2));
        Self { min, max, num, sum, sum_squares, limits, counts }
    }
}

/// The right edge of a bucket.
fn limit(bucket: i64) -> f64 {
    (bucket + 1) as f64 / BUCKETS_PER_DECADE
}

fn nodes(probe: &ProbeRecord) -> impl Iterator<Item = (f64, f64, f64)> {
    let errors = probe.hvp_errors.iter().copied().chain(std::iter::repeat(0.0));
    probe.nodes.iter().zip(errors).zip(&probe.weights).filter_map(|((&node, error), &weight)| {
        let error = if error.is_finite() { error.abs() } else { 0.0 };
        // A share of eigenvalues: a record that was not ours may say anything, and the sums must stay finite.
        (node.is_finite() && weight > 0.0).then_some((node, error, weight.min(1.0)))
    })
}

/// The share below x of an Epanechnikov kernel on \[low, high\].
fn kernel_integral(low: f64, high: f64, x: f64) -> f64 {
    if x >= high {
        return 1.0;
    }
    let u = (2.0 * (x - low) / (high - low) - 1.0).max(-1.0);
    0.5 + 0.75 * u - 0.25 * u.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;
    use proptest::prelude::*;

    fn density_of(eigenvalues: u64, nodes: &[(f64, f64, f64)]) -> Option<Histogram> {
        let probe = ProbeRecord {
            nodes: nodes.iter().map(|node| node.0).collect(),
            hvp_errors: nodes.iter().map(|node| node.1).collect(),
            weights: nodes.iter().map(|node| node.2).collect(),
            ..ProbeRecord::default()
        };
        Histogram::density(eigenvalues, &[probe], AXIS)
    }

    const AXIS: SymlogAxis = SymlogAxis { threshold: 1e-3 };

    #[test]
    fn weights_that_are_no_shares_leave_every_number_finite() {
        let hostile = [(1.0, 0.0, 1e308), (-2.0, f64::MAX, 1e300), (f64::MAX, 0.0, 0.5)];
        let density = density_of(u64::MAX, &hostile).unwrap();
        for histogram in [density.logarithmic(), density] {
            let Histogram { min, max, num, sum, sum_squares, limits, counts } = histogram;
            let numbers = [min, max, num, sum, sum_squares].into_iter().chain(limits).chain(counts);
            assert!(numbers.into_iter().all(f64::is_finite));
        }
    }

    #[test]
    fn the_threshold_is_a_power_of_ten_six_decades_below_the_first_scale() {
        let mut snapshot = fixture::snapshot(0);
        for (max, min, expected) in [
            (12.5, -0.1, Some(1e-5)),
            (1.0, -99.0, Some(1e-5)),
            (0.02, 0.0, Some(1e-8)),
            (0.0, 0.0, None),
            (f64::NAN, 0.0, None),
            (1e-320, 0.0, Some(f64::MIN_POSITIVE)),
        ] {
            snapshot.lambda_max.value = max;
            snapshot.lambda_min.value = min;
            let axis = SymlogAxis::of_snapshot(&snapshot);
            assert_eq!(axis.map(SymlogAxis::threshold), expected, "{max} {min}");
        }
    }

    #[test]
    fn a_node_without_error_fills_half_a_decade_around_its_place() {
        // x(0.999) = log₁₀(1 + 999) = 3.
        let histogram = density_of(1000, &[(0.999, 0.0, 1.0)]).unwrap();
        assert!((histogram.min - 2.7).abs() < 1e-12 && (histogram.max - 3.3).abs() < 1e-12);
        assert_eq!(histogram.limits, [2.8, 2.9, 3.0, 3.1, 3.2, 3.3]);
        // F(u) = ½ + ¾u − ¼u³ at u = −0.8, −0.4, 0.
        let expected = [28.0, 188.0 + 28.0 - 28.0, 500.0 - 216.0];
        assert!((histogram.counts[0] - expected[0]).abs() < 1e-9, "{histogram:?}");
        assert!((histogram.counts[1] - 188.0).abs() < 1e-9, "{histogram:?}");
        assert!((histogram.counts[2] - expected[2]).abs() < 1e-9, "{histogram:?}");
        assert!((histogram.num - 1000.0).abs() < 1e-9 && (histogram.sum - 3000.0).abs() < 1e-8);
    }

    #[test]
    fn what_the_noise_hides_is_as_wide_as_the_noise() {
        let histogram = density_of(1, &[(1e-6, 0.999, 1.0)]).unwrap();
        assert!((histogram.min + 3.3).abs() < 0.11 && (histogram.max - 3.3).abs() < 0.11, "{histogram:?}");
    }

    #[test]
    fn one_outlier_among_a_billion_shows_on_the_logarithmic_heights() {
        let density = density_of(1_000_000_000, &[(0.0, 0.0, 1.0 - 1e-9), (1000.0, 0.0, 1e-9)]).unwrap();
        let tall = density.logarithmic();
        assert_eq!(tall.limits, density.limits);
        let outlier = tall.counts.iter().rev().take(5).copied().fold(0.0, f64::max);
        let bulk = tall.counts.iter().copied().fold(0.0, f64::max);
        assert!(outlier > bulk / 10.0, "{outlier} beside {bulk}");
        assert!(density.counts.iter().filter(|&&count| count == 0.0).count() > 40, "gaps stay gaps");
    }

    #[test]
    fn without_mass_there_is_no_histogram() {
        assert_eq!(density_of(10, &[(f64::NAN, 0.0, 1.0), (1.0, 0.0, 0.0)]), None);
        assert_eq!(Histogram::density(10, &[], AXIS), None);
    }

    proptest! {
        #[test]
        fn mass_is_conserved_and_buckets_ascend(
            nodes in prop::collection::vec((-1e300..1e300_f64, 0.0..1e300_f64, -300..300_i32, 0.01..1.0_f64), 1..20),
        ) {
            let nodes: Vec<_> = nodes
                .into_iter()
                .map(|(node, error, scale, weight)| (node * 10_f64.powi(scale), error * 10_f64.powi(scale), weight))
                .filter(|node| node.0.is_finite())
                .collect();
            let total: f64 = nodes.iter().map(|node| node.2).sum();
            if let Some(histogram) = density_of(1000, &nodes) {
                prop_assert!((histogram.num - 1000.0 * total).abs() < 1e-6 * total.max(1.0));
                prop_assert!(histogram.limits.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(histogram.min < histogram.limits[0]);
                prop_assert!(histogram.counts.iter().all(|count| *count >= 0.0));
                prop_assert_eq!(histogram.limits.len(), histogram.counts.len());
            } else {
                prop_assert!(nodes.is_empty());
            }
        }
    }
}
