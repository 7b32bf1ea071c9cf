//! Nodes and weights from a Lanczos run.

use crate::krylov::lanczos::LanczosRun;
use crate::krylov::tridiagonal::{NoConvergence, eigen};
use crate::spectrum::snapshot::ProbeRecord;

/// The Gauss quadrature of the spectral measure of H seen from the start vector v of `run` (Golub &
/// Welsch): vᵀf(H)v ≈ Σ τ_k f(θ_k), θ_k the eigenvalues of T and τ_k the squared first components of
/// its eigenvectors s_k; exact for polynomials f of degree up to 2m − 1.
///
/// Each node comes with its Lanczos residual ‖Hy_k − θ_k y_k‖ = |β_m s_{m,k}| and with Σ_j |s_{j,k}|·ν_j,
/// the predicted errors ν_j of the products as they act on the Ritz vector y_k = Σ_j s_{j,k} q_j.
///
/// # Errors
/// When T has entries that are not finite.
pub fn quadrature(index: u64, run: &LanczosRun) -> Result<ProbeRecord, NoConvergence> {
    let m = run.alpha.len();
    let rows: Vec<usize> = (0..m).collect();
    let eigen = eigen(&run.alpha, &run.beta, &rows)?;
    let coupling = run.beta.last().copied().unwrap_or(0.0);
    let column = |k: usize| eigen.rows.iter().map(move |row| row[k]);
    Ok(ProbeRecord {
        index,
        alpha: run.alpha.clone(),
        beta: run.beta.clone(),
        weights: (0..m).map(|k| eigen.rows[0][k].powi(2)).collect(),
        residuals: (0..m).map(|k| (coupling * eigen.rows[m - 1][k]).abs()).collect(),
        hvp_errors: (0..m)
            .map(|k| column(k).zip(&run.errors).map(|(s, error)| s.abs() * error).sum())
            .collect(),
        nodes: eigen.values,
        breakdown: run.breakdown,
        reorthogonalized: run.reorthogonalized,
        ..ProbeRecord::default()
    })
}

/// Σ τ_k f(θ_k, k).
pub(crate) fn integrate(probe: &ProbeRecord, f: impl Fn(f64, usize) -> f64) -> f64 {
    probe.nodes.iter().zip(&probe.weights).enumerate().map(|(k, (&node, &weight))| weight * f(node, k)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(alpha: Vec<f64>, beta: Vec<f64>) -> LanczosRun {
        let errors = vec![0.0; alpha.len()];
        LanczosRun { alpha, beta, errors, ..LanczosRun::default() }
    }

    proptest! {
        /// Σ τ θ^k is the first entry of T^k, for any k: the defining property, against matrix powers.
        #[test]
        fn moments_are_those_of_the_matrix(
            entries in prop::collection::vec((-2.0_f64..2.0, 0.01_f64..2.0), 1..12), power in 0_usize..10,
        ) {
            let (alpha, beta): (Vec<f64>, Vec<f64>) = entries.into_iter().unzip();
            let m = alpha.len();
            let mut vector = vec![0.0; m];
            vector[0] = 1.0;
            for _ in 0..power {
                let mut next = vec![0.0; m];
                for i in 0..m {
                    next[i] += alpha[i] * vector[i];
                    if i > 0 { next[i] += beta[i - 1] * vector[i - 1]; }
                    if i + 1 < m { next[i] += beta[i] * vector[i + 1]; }
                }
                vector = next;
            }
            let probe = quadrature(0, &run(alpha, beta)).unwrap();
            let moment = integrate(&probe, |node, _| node.powi(power as i32));
            let scale = integrate(&probe, |node, _| node.abs().powi(power as i32)).max(1.0);
            prop_assert!((moment - vector[0]).abs() <= 1e-11 * scale, "{} for {}", moment, vector[0]);
            let mass: f64 = probe.weights.iter().sum();
            prop_assert!((mass - 1.0).abs() < 1e-12);
        }
    }
}
