//! The spectral density, smoothed for display, and the cumulative distribution, which is not.
//!
//! Nodes and weights are what a probe found; a density is a way to look at them. Each node becomes a Gaussian of
//! its weight on an [`Axis`]; its width is that at which neighbours of a regular grid of m nodes just merge:
//! σ = range / ((m − 1)·√(8 ln κ)), κ = 3 (Papyan, J. Mach. Learn. Res. 21 (2020) 1–64). On the symmetric-log axis
//! range and width are those of positions on the axis, and the axis scales with the spectrum, so that a small
//! spectrum is not smoothed away.

use crate::spectrum::axis::Axis;
use crate::spectrum::estimate::mean;
use crate::spectrum::snapshot::{Estimate, ProbeRecord};
use serde::{Deserialize, Serialize};

/// κ of the width.
const KAPPA: f64 = 3.0;
/// How far a grid reaches beyond the outermost nodes, in widths.
const MARGIN: f64 = 4.0;

/// A density on an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Density {
    /// The axis.
    pub axis: Axis,
    /// The width σ of a node, in positions on the axis.
    pub width: f64,
    /// Eigenvalues at which the density is given, equidistant on the axis.
    pub values: Vec<f64>,
    /// Their positions.
    pub positions: Vec<f64>,
    /// The share of eigenvalues for each unit of position, with its standard error over probe vectors; it
    /// integrates to 1 over positions.
    pub density: Vec<Estimate>,
}

impl Density {
    /// Of the spectra that the probes saw, at `points` ≥ 2 places. `None` without nodes.
    #[must_use]
    pub fn new(probes: &[ProbeRecord], axis: Axis, points: usize) -> Option<Self> {
        let placed = Placed::new(probes, axis)?;
        let positions = grid(placed.reach(), points);
        Some(Self::of(&placed, axis, positions))
    }

    /// The same at places of one's own, so that several spectra can be laid side by side: `positions` are equidistant and
    /// ascend. A node narrower than their distance is drawn that wide: it would fall between them. `None` without nodes.
    #[must_use]
    pub fn at(probes: &[ProbeRecord], axis: Axis, positions: Vec<f64>) -> Option<Self> {
        let placed = Placed::new(probes, axis)?.visible_at(&positions);
        Some(Self::of(&placed, axis, positions))
    }

    fn of(placed: &Placed, axis: Axis, positions: Vec<f64>) -> Self {
        let values = positions.iter().map(|&position| axis.value(position)).collect();
        Self { axis, width: placed.width, values, density: placed.density(&positions), positions }
    }
}

/// `points` ≥ 2 equidistant places.
pub(super) fn grid((start, end): (f64, f64), points: usize) -> Vec<f64> {
    let points = points.max(2);
    let step = (end - start) / (points - 1) as f64;
    (0..points).map(|i| start + i as f64 * step).collect()
}

/// Where the nodes of each probe stand on an axis, with their weights. What is not finite has no place.
pub(super) struct Placed {
    probes: Vec<Vec<(f64, f64)>>,
    bounds: (f64, f64),
    width: f64,
}

impl Placed {
    pub(super) fn new(probes: &[ProbeRecord], axis: Axis) -> Option<Self> {
        let place = |probe: &ProbeRecord| -> Vec<(f64, f64)> {
            let nodes = probe.nodes.iter().map(|&node| axis.position(node));
            let pairs = nodes.zip(probe.weights.iter().copied());
            pairs.filter(|(node, weight)| node.is_finite() && weight.is_finite()).collect()
        };
        let probes: Vec<Vec<(f64, f64)>> = probes.iter().map(place).collect();
        let bounds = bounds(probes.iter().flatten().map(|(node, _)| *node))?;
        let nodes = probes.iter().map(Vec::len).max()?;
        Some(Self { probes, bounds, width: width(bounds.0, bounds.1, nodes) })
    }

    /// From where to where the density is not zero, as far as can be seen.
    pub(super) fn reach(&self) -> (f64, f64) {
        (self.bounds.0 - MARGIN * self.width, self.bounds.1 + MARGIN * self.width)
    }

    /// With nodes at least as wide as equidistant positions are apart: narrower ones would fall between them.
    pub(super) fn visible_at(self, positions: &[f64]) -> Self {
        match positions {
            [first, second, ..] => Self { width: self.width.max(second - first), ..self },
            _ => self,
        }
    }

    /// At each of these positions, with its standard error over probe vectors.
    pub(super) fn density(&self, positions: &[f64]) -> Vec<Estimate> {
        let width = self.width;
        let norm = (width * std::f64::consts::TAU.sqrt()).recip();
        let smooth = |nodes: &[(f64, f64)], x: f64| -> f64 {
            let kernel = |node: f64| norm * (-0.5 * ((x - node) / width).powi(2)).exp();
            nodes.iter().map(|&(node, weight)| weight * kernel(node)).sum()
        };
        let of = |&x: &f64| mean(&self.probes.iter().map(|nodes| smooth(nodes, x)).collect::<Vec<_>>());
        positions.iter().map(of).collect()
    }
}

/// The distribution function of the spectrum, without smoothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cumulative {
    /// All nodes of all probes, ascending.
    pub values: Vec<f64>,
    /// The share of eigenvalues up to there, with its standard error over probe vectors.
    pub share: Vec<Estimate>,
}

impl Cumulative {
    /// Of the spectra that the probes saw.
    #[must_use]
    pub fn new(probes: &[ProbeRecord]) -> Self {
        let mut values: Vec<f64> = probes.iter().flat_map(|probe| probe.nodes.iter().copied()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let up_to = |probe: &ProbeRecord, x: f64| -> f64 {
            let nodes = probe.nodes.iter().zip(&probe.weights);
            nodes.filter(|(node, _)| **node <= x).map(|(_, weight)| weight).sum()
        };
        let share = values
            .iter()
            .map(|&x| mean(&probes.iter().map(|probe| up_to(probe, x)).collect::<Vec<_>>()))
            .collect();
        Self { values, share }
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// σ for `nodes` nodes between two positions; a spectrum of one value gets one that it can be seen at.
fn width(low: f64, high: f64, nodes: usize) -> f64 {
    let range = high - low;
    if range > 0.0 {
        // Probes of one node each may still differ.
        range / ((nodes.max(2) - 1) as f64 * (8.0 * KAPPA.ln()).sqrt())
    } else if high != 0.0 {
        1e-3 * high.abs()
    } else {
        1e-3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spectrum() -> impl Strategy<Value = Vec<ProbeRecord>> {
        let nodes = prop::collection::vec((-5.0_f64..10.0, 0.01_f64..1.0), 1..12);
        prop::collection::vec(nodes, 1..4).prop_map(|probes| {
            probes
                .into_iter()
                .map(|mut nodes| {
                    nodes.sort_by(|a, b| a.0.total_cmp(&b.0));
                    let total: f64 = nodes.iter().map(|(_, weight)| weight).sum();
                    ProbeRecord {
                        nodes: nodes.iter().map(|(node, _)| *node).collect(),
                        weights: nodes.iter().map(|(_, weight)| weight / total).collect(),
                        ..ProbeRecord::default()
                    }
                })
                .collect()
        })
    }

    fn scaled(probes: &[ProbeRecord], factor: f64) -> Vec<ProbeRecord> {
        let scale = |probe: &ProbeRecord| ProbeRecord {
            nodes: probe.nodes.iter().map(|node| factor * node).collect(),
            ..probe.clone()
        };
        probes.iter().map(scale).collect()
    }

    proptest! {
        #[test]
        fn a_density_is_not_negative_and_integrates_to_1(probes in spectrum(), log in any::<bool>()) {
            let axis = if log { Axis::SymmetricLog { threshold: 1e-3 } } else { Axis::Linear };
            let density = Density::new(&probes, axis, 2000).unwrap();
            let step = density.positions[1] - density.positions[0];
            let total: f64 = density.density.iter().map(|point| point.mean * step).sum();
            prop_assert!(density.density.iter().all(|point| point.mean >= 0.0));
            prop_assert!((total - 1.0).abs() < 1e-3, "{}", total);
            let mean = |f: &dyn Fn(usize) -> f64| -> f64 {
                density.density.iter().enumerate().map(|(i, point)| f(i) * point.mean * step).sum()
            };
            // The first moment on the axis is that of the nodes.
            let exact: f64 = probes.iter().map(|probe| -> f64 {
                probe.nodes.iter().zip(&probe.weights).map(|(node, w)| w * axis.position(*node)).sum()
            }).sum::<f64>() / probes.len() as f64;
            let range = density.positions[1999] - density.positions[0];
            prop_assert!(mean(&|i| density.positions[i] - exact).abs() < 1e-3 * range);
        }

        /// A spectrum a million times smaller looks the same on an axis that is scaled with it.
        #[test]
        fn small_spectra_are_not_erased(probes in spectrum()) {
            let large = Density::new(&probes, Axis::SymmetricLog { threshold: 1e-3 }, 50).unwrap();
            let small = scaled(&probes, 1e-6);
            let small = Density::new(&small, Axis::SymmetricLog { threshold: 1e-9 }, 50).unwrap();
            for (a, b) in large.density.iter().zip(&small.density) {
                prop_assert!((a.mean - b.mean).abs() <= 1e-9 * a.mean.abs().max(1e-9));
            }
        }

        #[test]
        fn a_distribution_function_rises_from_0_to_1(probes in spectrum()) {
            let cumulative = Cumulative::new(&probes);
            let means: Vec<f64> = cumulative.share.iter().map(|share| share.mean).collect();
            prop_assert!(means.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
            prop_assert!((means[means.len() - 1] - 1.0).abs() < 1e-12);
            prop_assert!(cumulative.values.is_sorted());
        }
    }

    /// Papyan's: the range over the m − 1 intervals of a regular grid, and over √(8 ln 3). On the symmetric-log axis the range is that of the positions.
    #[test]
    fn a_node_is_as_wide_as_the_range_over_its_intervals_and_the_root_of_8_ln_3() {
        let nodes = vec![-2.0, -0.5, 0.1, 3.0, 8.0];
        let short = ProbeRecord { nodes: vec![0.0, 1.0], weights: vec![0.5; 2], ..ProbeRecord::default() };
        let probe = ProbeRecord { nodes, weights: vec![0.2; 5], ..ProbeRecord::default() };
        let root = (8.0 * 3.0_f64.ln()).sqrt();
        for axis in [Axis::Linear, Axis::SymmetricLog { threshold: 0.25 }] {
            let range = axis.position(8.0) - axis.position(-2.0);
            // Of several probes the longest counts.
            for probes in [vec![probe.clone()], vec![short.clone(), probe.clone()]] {
                let width = Density::new(&probes, axis, 100).unwrap().width;
                assert!((width / (range / (4.0 * root)) - 1.0).abs() < 1e-12, "{axis:?}: {width}");
            }
        }
        // So half way to its neighbour on such a grid a node has fallen to a third.
        let width = width(0.0, 8.0, 9);
        assert!(((-0.5 * (0.5 / width).powi(2)).exp() - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn probes_that_agree_have_no_band_and_one_that_differs_has() {
        let probe = |node: f64| ProbeRecord {
            nodes: vec![-1.0, node],
            weights: vec![0.5, 0.5],
            ..ProbeRecord::default()
        };
        let band = |probes: &[ProbeRecord]| {
            let density = Density::new(probes, Axis::Linear, 100).unwrap().density;
            density.iter().map(|point| point.standard_error.unwrap()).fold(0.0, f64::max)
        };
        assert!(band(&[probe(1.0), probe(1.0)]) < 1e-12);
        assert!(band(&[probe(1.0), probe(3.0)]) > 0.01);
        let one = Density::new(&[probe(1.0)], Axis::Linear, 10).unwrap();
        assert!(one.density.iter().all(|point| point.standard_error.is_none()));
        assert_eq!(Density::new(&[], Axis::Linear, 10), None);
    }
}
