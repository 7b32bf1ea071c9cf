//! Dense oracles, and an operator that is a matrix.

use super::closure_host::ClosureHost;
use super::models::Model;
use hessian_probe::config::Reorthogonalize;
use hessian_probe::krylov::{Basis, Lanczos, LanczosRun, Operator, Product};
use hessian_probe::sharded::Layout;
use hessian_probe::{Error, Result};
use hessian_probe_c10d::autograd::{GradOptions, grad};
use tch::{Device, Kind, TchError, Tensor};

/// Eigenvalues by LAPACK, ascending.
pub fn eigenvalues(matrix: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(matrix.linalg_eigvalsh("L")).unwrap()
}

pub fn norm2(matrix: &Tensor) -> f64 {
    eigenvalues(matrix).iter().fold(0.0, |norm, value| norm.max(value.abs()))
}

/// The distance to the nearest of `values`.
pub fn distance(value: f64, values: &[f64]) -> f64 {
    values.iter().map(|other| (other - value).abs()).fold(f64::INFINITY, f64::min)
}

/// Double backward.
impl ClosureHost {
    /// An oracle in f64 that stands at the parameters of `host` as its forward pass sees them.
    pub fn at_the_same_parameters(model: Model, host: &Self) -> Self {
        let exact = Self::new(model, Kind::Double);
        tch::no_grad(|| {
            for (exact, rounded) in exact.parameters.iter().zip(&host.seen()) {
                exact.shallow_clone().copy_(rounded);
            }
        });
        exact
    }

    /// H, entry by entry through double backward: the oracle.
    pub fn dense_hessian(&self) -> Tensor {
        let (_, gradients) = self.graph(true);
        let pieces: Vec<Tensor> = gradients.iter().map(|g| g.reshape([-1])).collect();
        let gradient = Tensor::cat(&pieces, 0);
        let rows: Vec<Tensor> = (0..gradient.numel() as i64).map(|i| self.row(&gradient.get(i))).collect();
        let dense = Tensor::stack(&rows, 0);
        (&dense + dense.tr()) * 0.5
    }

    /// Hv through double backward.
    pub fn exact_product(&self, v: &Tensor) -> Tensor {
        let (_, gradients) = self.graph(true);
        let pieces: Vec<Tensor> = gradients.iter().map(|g| g.reshape([-1])).collect();
        self.row(&Tensor::cat(&pieces, 0).dot(v))
    }

    fn row(&self, output: &Tensor) -> Tensor {
        let inputs: Vec<&Tensor> = self.parameters.iter().collect();
        let options = GradOptions { retain_graph: true, allow_unused: true, create_graph: false };
        let rows = grad(&[output], &inputs, &[], options).unwrap();
        let rows: Vec<Tensor> = rows
            .into_iter()
            .zip(&self.parameters)
            .map(|(row, p)| row.unwrap_or_else(|| p.zeros_like()).reshape([-1]))
            .collect();
        Tensor::cat(&rows, 0)
    }
}

/// Products with a matrix in one process.
pub struct MatrixOperator {
    pub matrix: Tensor,
    layout: Layout,
    failed: Option<TchError>,
    noise: Option<(f64, super::models::Normal)>,
}

impl MatrixOperator {
    /// `host` tells the layout.
    pub fn new(matrix: &Tensor) -> Self {
        let n = matrix.size()[0];
        let theta = Tensor::zeros([n], (Kind::Double, Device::Cpu));
        let host = ClosureHost::new(super::models::quadratic(matrix, &theta), Kind::Double);
        Self::with_layout(matrix, Layout::new(&host, None).unwrap())
    }

    /// Products that are off by `share` of their norm in a random direction, and say so.
    pub fn with_noise(matrix: &Tensor, share: f64) -> Self {
        Self { noise: Some((share, super::models::Normal::new(99))), ..Self::new(matrix) }
    }

    /// The layout is that of a host in one process.
    pub fn with_layout(matrix: &Tensor, layout: Layout) -> Self {
        Self { matrix: matrix.shallow_clone(), layout, failed: None, noise: None }
    }

    /// A run from `start`, normalised here.
    pub fn lanczos(
        &mut self,
        start: &Tensor,
        steps: usize,
        reorthogonalize: Reorthogonalize,
    ) -> (LanczosRun, Basis) {
        let mut basis = Basis::new(&self.layout, reorthogonalize, steps).unwrap();
        let mut row = basis.next_row().unwrap();
        row.copy_(&(start / start.norm()));
        basis.commit().unwrap();
        let mut w = Tensor::zeros([self.layout.local_len()], (self.layout.kind(), Device::Cpu));
        let run = Lanczos { steps, reorthogonalize }.run(self, &mut basis, &mut w).unwrap();
        (run, basis)
    }
}

impl Operator for MatrixOperator {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn apply(&mut self, _: usize, q: &Tensor, _: Option<f64>, target: &mut Tensor) -> Result<Product> {
        target.copy_(&self.matrix.mv(q));
        let alpha = target.dot(q).double_value(&[]);
        let norm = target.norm().double_value(&[]);
        let mut error = 0.0;
        if let Some((share, draws)) = &mut self.noise {
            error = *share * norm;
            let direction = draws.tensor(&target.size(), 1.0);
            *target += &direction * (error / direction.norm().double_value(&[]));
        }
        Ok(Product { scale: 1.0, alpha, norm, error })
    }

    fn sum(
        &mut self,
        during: &'static str,
        _: usize,
        local: std::result::Result<Vec<f64>, TchError>,
    ) -> Result<Vec<f64>> {
        let local = self.failed.take().map_or(local, Err);
        local.map_err(|source| Error::Torch { rank: 0, during, source })
    }

    fn defer(&mut self, _: &'static str, local: std::result::Result<(), TchError>) {
        self.failed = self.failed.take().or(local.err());
    }

    fn rank(&self) -> usize {
        0
    }
}
