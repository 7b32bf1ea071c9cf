//! Bulk resolution by deflation.
//!
//! A product carries noise η/h, and h is bounded by the largest curvature that its vector meets: eigenvalues
//! below that noise are unresolved. A first run finds the outliers; their converged Ritz vectors Y are projected
//! out of start vectors and products, so that what remains has smaller curvature and takes larger steps. The
//! values return into the quadrature with their exact weights (y_iᵀv)².
//!
//! With H = YΘYᵀ + PHP + R, P = I − YYᵀ, the part R that is left out is of the size of the residuals of the
//! Ritz pairs, which are reported with the nodes.

use crate::config::SlqConfig;
use crate::error::Result;
use crate::krylov::deflated::{Deflated, coefficients};
use crate::krylov::lanczos::agree;
use crate::krylov::ritz::RitzVectors;
use crate::krylov::{Basis, Lanczos, LanczosRun, LanczosState, Operator};
use crate::spectrum::{DeflatedValue, ProbeRecord};
use tch::{TchError, Tensor};

const DEFLATING: &str = "deflating outliers";

/// A Ritz value is taken for converged where residual and noise are below this share of it.
const CONVERGED: f64 = 0.05;

/// Outliers, and what the present start vector has of them.
pub(super) struct Deflation {
    vectors: Basis,
    /// Value, residual and noise of each.
    found: Vec<DeflatedValue>,
    /// ‖Pv‖².
    kept: f64,
}

impl Deflation {
    /// The outliers of a run that is complete, at most `slq.deflate` of them: the converged ones of largest
    /// magnitude. `None` where none has converged.
    pub(super) fn of(
        operator: &mut dyn Operator,
        slq: &SlqConfig,
        run: &LanczosRun,
        record: &ProbeRecord,
        basis: &Basis,
        w: &mut Tensor,
    ) -> Result<Option<Self>> {
        let m = run.alpha.len();
        let converged =
            |k: &usize| record.residuals[*k] + record.hvp_errors[*k] <= CONVERGED * record.nodes[*k].abs();
        let mut chosen: Vec<usize> = (0..m).filter(converged).collect();
        chosen.sort_by(|&a, &b| record.nodes[b].abs().total_cmp(&record.nodes[a].abs()));
        // One direction at least is left to look at.
        chosen.truncate(slq.deflate.min(m.saturating_sub(1)));
        // T was decomposed before, without an error.
        let (false, Ok(ritz)) = (chosen.is_empty(), RitzVectors::new(run)) else { return Ok(None) };
        let vectors = Basis::outliers(operator.layout(), chosen.len());
        let mut vectors = agree(operator, DEFLATING, vectors)?;
        let mut found = Vec::new();
        for &k in &chosen {
            operator.defer(DEFLATING, ritz.write(k, basis, w));
            // Orthogonal as far as the basis is: once more, for the projection to be one.
            for _ in 0..2 {
                let (off, _) = coefficients(operator, &vectors, w)?;
                operator.defer(DEFLATING, vectors.subtract(w, &off, None));
            }
            let (_, squared) = coefficients(operator, &vectors, w)?;
            operator.defer(DEFLATING, vectors.subtract(w, &[], Some(squared.sqrt().recip())));
            found.push(DeflatedValue {
                value: record.nodes[k],
                weight: 0.0,
                residual: record.residuals[k],
                hvp_error: record.hvp_errors[k],
            });
        }
        Ok(Some(Self { vectors, found, kept: 1.0 }))
    }

    /// Bytes of the vectors on this rank.
    pub(super) fn bytes(&self) -> u64 {
        self.vectors.bytes()
    }

    /// Projects the start vector, which is the basis' only one.
    pub(super) fn project(
        &mut self,
        operator: &mut dyn Operator,
        basis: &mut Basis,
        w: &mut Tensor,
    ) -> Result<()> {
        let copied = basis.vector(0).and_then(|start| copy(w, &start));
        operator.defer(DEFLATING, copied);
        let (weights, _) = coefficients(operator, &self.vectors, w)?;
        operator.defer(DEFLATING, self.vectors.subtract(w, &weights, None));
        let (off, squared) = coefficients(operator, &self.vectors, w)?;
        operator.defer(DEFLATING, self.vectors.subtract(w, &off, None));
        self.kept = squared;
        for (found, weight) in self.found.iter_mut().zip(&weights) {
            found.weight = weight * weight;
        }
        basis.clear();
        operator.defer(DEFLATING, basis.subtract(w, &[], Some(squared.sqrt().recip())));
        Ok(())
    }

    /// One step of a run on what is left.
    pub(super) fn advance(
        &mut self,
        lanczos: &Lanczos,
        operator: &mut dyn Operator,
        basis: &mut Basis,
        w: &mut Tensor,
        state: &mut LanczosState,
    ) -> Result<bool> {
        let mut deflated = Deflated { inner: operator, vectors: &mut self.vectors };
        lanczos.advance(&mut deflated, basis, w, state)
    }

    /// The quadrature of H from that of PHP.
    pub(super) fn complete(&self, record: ProbeRecord) -> ProbeRecord {
        let left = (0..record.nodes.len()).map(|k| DeflatedValue {
            value: record.nodes[k],
            weight: self.kept * record.weights[k],
            residual: record.residuals[k],
            hvp_error: record.hvp_errors[k],
        });
        let mut nodes: Vec<DeflatedValue> = left.chain(self.found.iter().copied()).collect();
        nodes.sort_by(|a, b| a.value.total_cmp(&b.value));
        ProbeRecord {
            nodes: nodes.iter().map(|node| node.value).collect(),
            weights: nodes.iter().map(|node| node.weight).collect(),
            residuals: nodes.iter().map(|node| node.residual).collect(),
            hvp_errors: nodes.iter().map(|node| node.hvp_error).collect(),
            deflated: self.found.clone(),
            ..record
        }
    }
}

fn copy(w: &mut Tensor, source: &Tensor) -> Result<(), TchError> {
    let _no_grad = tch::no_grad_guard();
    w.f_copy_(source)
}
