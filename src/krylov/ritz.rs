//! Ritz vectors: y_k = Qs_k, s_k an eigenvector of T.

use crate::krylov::basis::Basis;
use crate::krylov::lanczos::LanczosRun;
use crate::krylov::tridiagonal::{Eigen, NoConvergence, eigen};
use tch::{TchError, Tensor};

/// The eigenvectors of a run's T, whole.
pub(crate) struct RitzVectors {
    eigen: Eigen,
}

impl RitzVectors {
    /// Of a run that is complete.
    pub(crate) fn new(run: &LanczosRun) -> Result<Self, NoConvergence> {
        let rows: Vec<usize> = (0..run.alpha.len()).collect();
        Ok(Self { eigen: eigen(&run.alpha, &run.beta, &rows)? })
    }

    /// The number of the largest Ritz value.
    pub(crate) fn top(&self) -> usize {
        self.eigen.values.len().saturating_sub(1)
    }

    /// s_k: the components of Ritz vector number k, from the smallest value on, in the Krylov basis.
    pub(crate) fn components(&self, k: usize) -> Vec<f64> {
        self.eigen.rows.iter().map(|row| row[k]).collect()
    }

    /// Writes y_k to `target`; all vectors of the run must be stored.
    pub(crate) fn write(&self, k: usize, basis: &Basis, target: &mut Tensor) -> Result<(), TchError> {
        basis.combination(&self.components(k), target)
    }
}
