//! What the quadratures of all probe vectors say about H. For any f, tr f(H) ≈ n · mean over probe
//! vectors of Σ τ_k f(θ_k) (Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38 (2017)).

use crate::spectrum::estimate::{mean, of_means};
use crate::spectrum::quadrature::integrate;
use crate::spectrum::snapshot::{Estimate, Extreme, ProbeRecord, Unresolved};

/// What a predicted error is multiplied by where a bound is wanted: predictions are within this factor of
/// the true errors, as the tests check along whole Lanczos runs.
pub const PREDICTION_FACTOR: f64 = 5.0;

/// Statistics of a spectrum, each with its error over probe vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The algebraically largest Ritz value.
    pub lambda_max: Extreme,
    /// The algebraically smallest Ritz value.
    pub lambda_min: Extreme,
    /// tr H.
    pub trace: Estimate,
    /// tr H / n.
    pub mean_eigenvalue: Estimate,
    /// ‖H‖_F.
    pub frobenius_norm: Estimate,
    /// Share of negative Ritz mass.
    pub negative_share: Estimate,
    /// Share of Ritz mass that is below zero by more than its residual and noise.
    pub negative_share_resolved: Estimate,
    /// tr(|H|)² / ‖H‖_F².
    pub effective_rank: Option<Estimate>,
    /// ‖H‖_F² / λ², λ the largest magnitude.
    pub stable_rank: Option<Estimate>,
    /// −Σ p ln p, p = |λ| / tr|H|.
    pub spectral_entropy: Option<Estimate>,
    /// What the noise hides.
    pub unresolved: Unresolved,
}

impl Statistics {
    /// Statistics of an operator of order `parameters` from at least one probe; `None` without nodes.
    #[must_use]
    pub fn new(probes: &[ProbeRecord], parameters: u64) -> Option<Self> {
        let n = parameters as f64;
        let over = |f: &dyn Fn(&ProbeRecord, f64, usize) -> f64| -> Vec<f64> {
            probes.iter().map(|probe| integrate(probe, |node, k| f(probe, node, k))).collect()
        };
        let scaled = |factor: f64, values: Vec<f64>| {
            mean(&values.iter().map(|value| factor * value).collect::<Vec<_>>())
        };
        let first = over(&|_, node, _| node);
        let absolute = over(&|_, node, _| node.abs());
        let second = over(&|_, node, _| node * node);
        let logarithmic = over(&|_, node, _| if node == 0.0 { 0.0 } else { node.abs() * node.abs().ln() });
        let paired = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(&a, &b)| [a, b]).collect::<Vec<_>>();
        let lambda_max = largest(probes)?;
        let lambda_min = smallest(probes)?;
        let magnitude = lambda_max.value.abs().max(lambda_min.value.abs());
        let squares: Vec<[f64; 1]> = second.iter().map(|&square| [square]).collect();
        let is_unresolved = |probe: &ProbeRecord, node: f64, k: usize| node.abs() < probe.hvp_errors[k];
        Some(Self {
            lambda_max,
            lambda_min,
            trace: scaled(n, first.clone()),
            mean_eigenvalue: scaled(1.0, first),
            frobenius_norm: of_means(&squares, |[square]| (n * square).sqrt())?,
            negative_share: mean(&over(&|_, node, _| f64::from(node < 0.0))),
            negative_share_resolved: mean(&over(&|probe, node, k| {
                f64::from(node < -probe.hvp_errors[k] - probe.residuals[k])
            })),
            effective_rank: of_means(&paired(&absolute, &second), |[sum, square]| n * sum * sum / square),
            stable_rank: of_means(&squares, |[square]| n * square / magnitude.powi(2)),
            spectral_entropy: of_means(&paired(&absolute, &logarithmic), |[sum, log]| {
                (n * sum).ln() - log / sum
            }),
            unresolved: Unresolved {
                floor: floor(probes, is_unresolved),
                mass: mean(&over(&|probe, node, k| f64::from(is_unresolved(probe, node, k)))),
            },
        })
    }
}

/// The algebraically largest Ritz value of all probes.
pub(crate) fn largest(probes: &[ProbeRecord]) -> Option<Extreme> {
    extreme(probes, |a, b| a > b)
}

/// The algebraically smallest Ritz value of all probes.
pub(crate) fn smallest(probes: &[ProbeRecord]) -> Option<Extreme> {
    extreme(probes, |a, b| a < b)
}

/// The outermost Ritz value of all probes, in the order given.
fn extreme(probes: &[ProbeRecord], beyond: impl Fn(f64, f64) -> bool) -> Option<Extreme> {
    let ritz = probes.iter().flat_map(|probe| (0..probe.nodes.len()).map(move |k| (probe, k)));
    let (probe, k) = ritz
        .reduce(|best, next| if beyond(next.0.nodes[next.1], best.0.nodes[best.1]) { next } else { best })?;
    let hvp_error = PREDICTION_FACTOR * probe.hvp_errors[k];
    Some(Extreme {
        value: probe.nodes[k],
        residual: probe.residuals[k] + hvp_error,
        lanczos_residual: probe.residuals[k],
        hvp_error,
    })
}

/// The largest noise among the unresolved Ritz values; the smallest of all where none is unresolved.
fn floor(probes: &[ProbeRecord], is_unresolved: impl Fn(&ProbeRecord, f64, usize) -> bool) -> f64 {
    let noises = |unresolved: bool| {
        let is_unresolved = &is_unresolved;
        probes.iter().flat_map(move |probe| {
            let kept = move |k: &usize| !unresolved || is_unresolved(probe, probe.nodes[*k], *k);
            (0..probe.nodes.len()).filter(kept).map(move |k| probe.hvp_errors[k])
        })
    };
    noises(true).reduce(f64::max).or_else(|| noises(false).reduce(f64::min)).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(nodes: &[f64], weights: &[f64], noise: f64) -> ProbeRecord {
        ProbeRecord {
            nodes: nodes.to_vec(),
            weights: weights.to_vec(),
            residuals: vec![0.0; nodes.len()],
            hvp_errors: vec![noise; nodes.len()],
            ..ProbeRecord::default()
        }
    }

    #[test]
    fn of_a_known_spectrum() {
        // n = 8: two eigenvalues of 3, one of −4, five of 0; exact quadrature.
        let probes = [probe(&[-4.0, 0.0, 3.0], &[0.125, 0.625, 0.25], 1e-3)];
        let statistics = Statistics::new(&probes, 8).unwrap();
        let close =
            |value: f64, expected: f64| assert!((value - expected).abs() < 1e-12, "{value} for {expected}");
        close(statistics.trace.mean, 2.0);
        close(statistics.mean_eigenvalue.mean, 0.25);
        close(statistics.frobenius_norm.mean, 34.0_f64.sqrt());
        close(statistics.effective_rank.unwrap().mean, 100.0 / 34.0);
        close(statistics.stable_rank.unwrap().mean, 34.0 / 16.0);
        let entropy = -(2.0 * 0.3 * 0.3_f64.ln() + 0.4 * 0.4_f64.ln());
        close(statistics.spectral_entropy.unwrap().mean, entropy);
        close(statistics.negative_share.mean, 0.125);
        close(statistics.negative_share_resolved.mean, 0.125);
        close(statistics.unresolved.mass.mean, 0.625);
        close(statistics.unresolved.floor, 1e-3);
        // A residual beyond which the sign is not known.
        let mut vague = probes[0].clone();
        vague.residuals[0] = 5.0;
        close(Statistics::new(&[vague], 8).unwrap().negative_share_resolved.mean, 0.0);
        // The value of largest magnitude is the smallest one.
        assert_eq!((statistics.lambda_max.value, statistics.lambda_min.value), (3.0, -4.0));
        assert_eq!(statistics.trace.standard_error, None);
    }

    #[test]
    fn of_the_zero_operator_what_is_undefined_is_none() {
        let statistics =
            Statistics::new(&[probe(&[0.0], &[1.0], 0.0), probe(&[0.0], &[1.0], 0.0)], 5).unwrap();
        assert_eq!(statistics.trace, Estimate { mean: 0.0, standard_error: Some(0.0) });
        assert_eq!(statistics.frobenius_norm.mean, 0.0);
        assert!(statistics.effective_rank.is_none() && statistics.stable_rank.is_none());
        assert!(statistics.spectral_entropy.is_none());
    }
}
