//! Densities of several snapshots on one axis: what a heat map over training steps shows.

use crate::spectrum::axis::Axis;
use crate::spectrum::density::{Placed, grid};
use crate::spectrum::snapshot::{Estimate, ProbeRecord, Snapshot};
use std::f64::consts::LN_10;

/// Fewer eigenvalues for each decade than so many are as good as none: one alone, spread over the decades that a spectrum
/// may span, has more.
pub const FEWEST: f64 = 0.01;

/// What a density needs of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct SpectrumAt {
    /// The step of the snapshot.
    pub step: u64,
    /// n, the number of eigenvalues.
    pub parameters: u64,
    /// What the noise hides is smaller: see [`Unresolved`](super::Unresolved).
    pub floor: f64,
    /// Nodes and weights.
    pub probes: Vec<ProbeRecord>,
}

impl SpectrumAt {
    /// Of a snapshot, without what no density needs.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let slim = |probe: &ProbeRecord| ProbeRecord {
            nodes: probe.nodes.clone(),
            weights: probe.weights.clone(),
            ..ProbeRecord::default()
        };
        Self {
            step: snapshot.step,
            parameters: snapshot.parameters,
            floor: snapshot.unresolved.floor,
            probes: snapshot.probes.iter().map(slim).collect(),
        }
    }
}

/// Densities on one axis, each at the same places.
#[derive(Clone, Debug, PartialEq)]
pub struct DensityOverSteps {
    /// The axis.
    pub axis: Axis,
    /// Eigenvalues at which densities are given, equidistant on the axis.
    pub values: Vec<f64>,
    /// Their positions.
    pub positions: Vec<f64>,
    /// One for each spectrum that has nodes, in the order given.
    pub columns: Vec<DensityColumn>,
}

/// The density at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct DensityColumn {
    /// Which of the spectra given it is of: those without nodes have none.
    pub index: usize,
    /// The step.
    pub step: u64,
    /// Eigenvalues smaller than this are unresolved.
    pub floor: f64,
    /// The number of eigenvalues for each decade of |λ| (for each ln 10 of position, near zero), with its standard error
    /// over probe vectors: n · ln 10 · [`Density::density`](super::Density::density).
    pub per_decade: Vec<Estimate>,
}

impl DensityOverSteps {
    /// Of at least one spectrum, at `points` ≥ 2 places that reach over all of them. Spectra without nodes are left out;
    /// `None` where nothing is left.
    #[must_use]
    pub fn new<'a>(spectra: impl IntoIterator<Item = &'a SpectrumAt>, points: usize) -> Option<Self> {
        let spectra: Vec<&SpectrumAt> = spectra.into_iter().collect();
        let axis = Axis::symmetric_log_over(spectra.iter().map(|of| (of.floor, &of.probes[..])));
        let place =
            |(index, of): (usize, &&'a SpectrumAt)| Some((index, *of, Placed::new(&of.probes, axis)?));
        let placed: Vec<(usize, &SpectrumAt, Placed)> =
            spectra.iter().enumerate().filter_map(place).collect();
        let reaches = placed.iter().map(|(_, _, placed)| placed.reach());
        let reach = reaches.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let positions = grid(reach, points);
        let column = |(index, of, placed): (usize, &SpectrumAt, Placed)| {
            let scale = of.parameters as f64 * LN_10;
            let per_decade =
                placed.visible_at(&positions).density(&positions).into_iter().map(|point| Estimate {
                    mean: scale * point.mean,
                    standard_error: point.standard_error.map(|error| scale * error),
                });
            DensityColumn { index, step: of.step, floor: of.floor, per_decade: per_decade.collect() }
        };
        let columns = placed.into_iter().map(column).collect();
        let values = positions.iter().map(|&position| axis.value(position)).collect();
        Some(Self { axis, values, positions, columns })
    }

    /// The index of the column that is nearest to a step, where steps ascend: each reaches half-way to its neighbours, and the
    /// later of two has what lies in the middle. 0 where there are none.
    #[must_use]
    pub fn column_at(&self, step: f64) -> usize {
        let distance = |column: &DensityColumn| (column.step as f64 - step).abs();
        self.columns.windows(2).take_while(|pair| distance(&pair[1]) <= distance(&pair[0])).count()
    }

    /// The index of the nearest of [`positions`](Self::positions).
    #[must_use]
    pub fn place_at(&self, position: f64) -> usize {
        let [first, .., last] = self.positions[..] else { return 0 };
        let share = (position - first) / (last - first);
        (share.clamp(0.0, 1.0) * (self.positions.len() - 1) as f64).round() as usize
    }

    /// The common logarithm of the largest number of eigenvalues for each decade, rounded up; at least 1 decade above
    /// [`FEWEST`].
    #[must_use]
    pub fn top(&self) -> f64 {
        let all = self.columns.iter().flat_map(|column| &column.per_decade);
        let largest =
            all.map(|point| point.mean + point.standard_error.unwrap_or(0.0)).fold(FEWEST, f64::max);
        largest.log10().ceil().clamp(FEWEST.log10() + 1.0, 300.0)
    }

    /// How high a number of eigenvalues for each decade stands between [`FEWEST`] and [`top`](Self::top), on a logarithmic
    /// scale: from 0 to 1.
    #[must_use]
    pub fn level(top: f64, per_decade: f64) -> f64 {
        let bottom = FEWEST.log10();
        // NaN, too, is nothing to be seen.
        if per_decade > FEWEST { ((per_decade.log10() - bottom) / (top - bottom)).min(1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectrum::Density;

    fn spectrum(step: u64, nodes: &[f64], weights: &[f64]) -> SpectrumAt {
        let probe =
            ProbeRecord { nodes: nodes.to_vec(), weights: weights.to_vec(), ..ProbeRecord::default() };
        SpectrumAt { step, parameters: 1000, floor: 1e-3, probes: vec![probe] }
    }

    #[test]
    fn all_eigenvalues_are_counted_once_at_every_step() {
        let spectra = [
            spectrum(0, &[-1.0, 0.001, 50.0], &[0.1, 0.8, 0.1]),
            spectrum(10, &[0.5], &[1.0]),
            spectrum(20, &[], &[]),
            spectrum(30, &[-1e-4, 2.0], &[0.5, 0.5]),
        ];
        let found = DensityOverSteps::new(&spectra, 4000).unwrap();
        let told = found.columns.iter().map(|column| (column.index, column.step));
        assert_eq!(told.collect::<Vec<_>>(), [(0, 0), (1, 10), (3, 30)]);
        let decade = (found.positions[1] - found.positions[0]) / LN_10;
        for column in &found.columns {
            let total: f64 = column.per_decade.iter().map(|point| point.mean * decade).sum();
            assert!((total - 1000.0).abs() < 1.0, "step {}: {total}", column.step);
        }
        // A node stands where it belongs.
        let alone = &found.columns[1].per_decade;
        let top = (0..alone.len()).max_by(|&a, &b| alone[a].mean.total_cmp(&alone[b].mean)).unwrap();
        assert!((found.values[top] - 0.5).abs() < 0.01, "{}", found.values[top]);
    }

    /// The oracle is a density of its own for each spectrum.
    #[test]
    fn a_column_is_the_density_of_its_spectrum_bit_for_bit() {
        let spectra = [
            spectrum(0, &[-1.0, 0.001, 50.0], &[0.1, 0.8, 0.1]),
            spectrum(10, &[], &[]),
            spectrum(20, &[0.5], &[1.0]),
        ];
        let found = DensityOverSteps::new(&spectra, 300).unwrap();
        for column in &found.columns {
            let alone =
                Density::at(&spectra[column.index].probes, found.axis, found.positions.clone()).unwrap();
            assert_eq!(alone.values, found.values);
            for (point, expected) in column.per_decade.iter().zip(&alone.density) {
                assert_eq!(point.mean.to_bits(), (1000.0 * LN_10 * expected.mean).to_bits());
            }
        }
    }

    #[test]
    fn a_step_belongs_to_the_nearest_column_and_a_position_to_the_nearest_place() {
        let spectra = [0, 10, 30].map(|step| spectrum(step, &[-1.0, 1.0], &[0.5, 0.5]));
        let found = DensityOverSteps::new(&spectra, 5).unwrap();
        let columns = [-3.0, 4.9, 5.0, 19.9, 20.0, 99.0].map(|step| found.column_at(step));
        assert_eq!(columns, [0, 0, 1, 1, 2, 2]);
        let (first, distance) = (found.positions[0], found.positions[1] - found.positions[0]);
        let places =
            [-9.0, 0.0, 0.49, 0.51, 3.4, 3.6, 99.0].map(|share| found.place_at(first + share * distance));
        assert_eq!(places, [0, 0, 0, 1, 3, 4, 4]);
        assert_eq!((found.place_at(f64::NAN), found.column_at(f64::NAN)), (0, 0));
    }

    #[test]
    fn levels_are_logarithmic_between_next_to_none_and_the_most() {
        let level = |per_decade| DensityOverSteps::level(2.0, per_decade);
        assert_eq!((level(0.0), level(FEWEST), level(f64::NAN), level(-1.0)), (0.0, 0.0, 0.0, 0.0));
        assert_eq!((level(1.0), level(100.0), level(1e9)), (0.5, 1.0, 1.0));
    }

    #[test]
    fn records_that_are_not_ours_are_drawn_or_left_out() {
        let huge = spectrum(0, &[1e308, -1e308, 0.0, f64::NAN], &[1e300, 0.5, f64::NAN, 1.0]);
        let few = spectrum(1, &[1.0, 2.0, 3.0], &[0.5]);
        let zero = spectrum(2, &[0.0], &[1.0]);
        let found = DensityOverSteps::new([&huge, &few, &zero], 50).unwrap();
        assert!(found.top().is_finite() && found.positions.iter().all(|place| place.is_finite()));
        assert_eq!(found.columns.len(), 3);
        assert_eq!(DensityOverSteps::new([&spectrum(0, &[f64::NAN], &[1.0])], 50), None);
        assert_eq!(DensityOverSteps::new([], 50), None);
        let zero = DensityOverSteps::new([&zero], 50).unwrap();
        assert!(zero.columns[0].per_decade.iter().any(|point| point.mean > 1.0));
    }
}
