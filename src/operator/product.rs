//! One product: tried with a formula and a step, and again where another step is much better.

use crate::error::{Error, Result};
use crate::krylov::Product;
use crate::operator::finite_difference::FiniteDifference;
use crate::operator::measure::Measured;
use crate::operator::scheme::Scheme;
use crate::operator::step::{Curvature, ratio};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const PRODUCT: &str = "a Hessian-vector product";

/// How often a product is computed again at most.
const MAX_REDONE: usize = 3;

/// A larger parity ratio says no more than that there is nothing but noise; finite, as records must be.
const MAX_PARITY: f64 = 1e3;

/// How one product went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProductRecord {
    /// The formula.
    pub scheme: Scheme,
    /// The step h asked for; 0 where the formula has none.
    pub step: f64,
    /// The predicted relative error.
    pub error: f64,
    /// The parity ratio p, measured (two-sided) or carried over (forward).
    pub parity: f64,
    /// ρ, the relative part of the displacement that is not along v.
    pub rounding: f64,
    /// Gradients of earlier attempts, which were given up.
    #[serde(default)]
    pub given_up: u64,
}

/// A product as one attempt found it; its vector is where it was written.
pub(super) struct Tried {
    pub(super) measured: Measured,
    pub(super) record: ProductRecord,
    /// What it says of the curvature along v.
    pub(super) curvature: Curvature,
    /// The predicted relative error that decides, from η as it enters decisions.
    pub(super) error: f64,
}

impl FiniteDifference<'_, '_> {
    /// One product: which formula and step, and whether again.
    pub(super) fn product(
        &mut self,
        index: usize,
        q: &Tensor,
        expected_norm: Option<f64>,
        target: &mut Tensor,
    ) -> Result<Product> {
        if index == 0 {
            self.last = None;
        }
        if self.interrupter.is_interrupted() {
            // This rank still takes part in the gradient that the others are about to compute.
            self.pending.get_or_insert(Error::Interrupted { rank: self.ranks.rank() });
        }
        let known = self.foreseen(index, expected_norm);
        let scheme = self.scheme_for(index, known);
        if scheme == Scheme::Exact {
            return self.exact_product(q, target);
        }
        let h = self.step_for(scheme, known);
        let mut tried = self.attempt_with(q, target, scheme, h, known)?;
        let mut given_up = 0;
        for left in (0..MAX_REDONE).rev() {
            // From the step of a run's start others follow. One more product must be left for the way back.
            let may_explore = index == 0 && left > 0 && self.may_redo.is_none_or(|left| left > 1);
            let longer = if may_explore { self.longer(&tried) } else { None };
            let next = longer.map(|h| (tried.record.scheme, h)).or_else(|| self.better(&tried));
            let Some((scheme, h)) = next.filter(|_| self.may_redo != Some(0)) else { break };
            let next = self.again(q, target, scheme, h, tried.curvature)?;
            let before = std::mem::replace(&mut tried, next);
            given_up += before.record.scheme.gradients();
            if longer.is_some() && tried.error > before.error {
                given_up += tried.record.scheme.gradients();
                let ProductRecord { scheme, step, .. } = before.record;
                tried = self.again(q, target, scheme, step, before.curvature)?;
                break;
            }
        }
        self.remember(index, tried.curvature);
        self.products.push(ProductRecord { given_up, ..tried.record });
        Ok(tried.measured.product(&tried.record))
    }

    /// A product computed once more.
    fn again(
        &mut self,
        q: &Tensor,
        target: &mut Tensor,
        scheme: Scheme,
        h: f64,
        known: Curvature,
    ) -> Result<Tried> {
        if let Some(left) = &mut self.may_redo {
            *left = left.saturating_sub(1);
        }
        self.redone += 1;
        self.attempt_with(q, target, scheme, h, Some(known))
    }

    /// One product with the scheme and step given.
    pub(super) fn attempt(
        &mut self,
        v: &Tensor,
        w: &mut Tensor,
        scheme: Scheme,
        h: f64,
        foreseen: Option<Curvature>,
    ) -> Result<Tried> {
        let measured = match scheme {
            Scheme::Central4 => self.central4(v, h, w)?,
            Scheme::Central => self.central(v, h, w, PRODUCT)?,
            Scheme::Forward | Scheme::Exact => self.forward(v, h, w)?,
        };
        let norm = measured.norm();
        let (parity, curvature) = match measured.even {
            Some(even) => {
                let parity = ratio(even, 2.0 * measured.odd).min(MAX_PARITY);
                (parity, self.measured_curvature(&measured, parity))
            }
            None => {
                let curvature =
                    foreseen.map_or(Curvature { norm, parity: 0.0 }, |foreseen| foreseen.rescaled(norm));
                (curvature.parity * measured.realised, curvature)
            }
        };
        // Absolute errors: they stay meaningful where Hv itself is noise.
        let truncation = scheme.truncation(parity.max(measured.truncation.sqrt()));
        let absolute = |noise: f64| truncation * norm + scheme.noise_factor() * noise / measured.realised;
        let record = ProductRecord {
            scheme,
            step: h,
            error: relative(absolute(self.noise), norm),
            parity,
            rounding: measured.rounding,
            given_up: 0,
        };
        let error = relative(absolute(self.rounded_noise()), norm);
        Ok(Tried { measured, record, curvature, error })
    }

    /// [`attempt`](Self::attempt) with a larger step where an automatic one was so small that no parameter moved: the
    /// sums that tell so are the same on every rank.
    fn attempt_with(
        &mut self,
        v: &Tensor,
        w: &mut Tensor,
        scheme: Scheme,
        h: f64,
        foreseen: Option<Curvature>,
    ) -> Result<Tried> {
        match self.attempt(v, w, scheme, h, foreseen) {
            Err(Error::StepTooSmall { .. })
                if self.fixed_step().is_none() && self.range.is_below_rounding(h) =>
            {
                self.attempt(v, w, scheme, self.range.fit_above_rounding(h), foreseen)
            }
            outcome => outcome,
        }
    }

    /// One product by the host's own derivative of the gradient. Its error is rounding, of which nothing is
    /// measured: it is taken to be that of the parameters' type.
    fn exact_product(&mut self, v: &Tensor, w: &mut Tensor) -> Result<Product> {
        let (norm, alpha) = self.exact(v, w)?;
        let error = self.guard.roundoff();
        let record = ProductRecord {
            scheme: Scheme::Exact,
            step: 0.0,
            error,
            parity: 0.0,
            rounding: 0.0,
            given_up: 0,
        };
        self.products.push(record);
        Ok(Product { scale: 1.0, alpha, norm, error: error * norm })
    }
}

/// The relative error of a product of norm `norm`; 1 where there is nothing but noise.
fn relative(error: f64, norm: f64) -> f64 {
    if error == 0.0 {
        0.0
    } else if norm > 0.0 {
        error / norm
    } else {
        1.0
    }
}
