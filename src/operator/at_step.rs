//! Products with a formula and a step that somebody else chose: what automatic choices are judged by.

use crate::config::{Difference, HvpConfig};
use crate::error::{Error, Result};
use crate::krylov::{Operator, Product};
use crate::operator::difference::From;
use crate::operator::finite_difference::FiniteDifference;
use crate::operator::product::{PRODUCT, ProductRecord, Tried};
use crate::operator::scheme::Scheme;
use crate::operator::step::Curvature;
use tch::Tensor;

/// One product at a given step.
pub(crate) struct AtStep {
    pub(crate) product: Product,
    pub(crate) record: ProductRecord,
    /// h̄.
    pub(crate) realised: f64,
    pub(crate) curvature: Curvature,
}

impl<'a> FiniteDifference<'a, '_> {
    /// w ← Hv up to a factor, by `scheme` with the step h. `known` is what a forward difference takes its parity
    /// ratio from. Where no parameter would move, that is found out before any gradient.
    pub(crate) fn at_step(
        &mut self,
        v: &Tensor,
        w: &mut Tensor,
        scheme: Scheme,
        h: f64,
        known: Option<Curvature>,
    ) -> Result<AtStep> {
        if self.interrupter.is_interrupted() {
            self.pending.get_or_insert(Error::Interrupted { rank: self.ranks.rank() });
        }
        let [along, _] = self.displace(v, h, From::Saved);
        let along = self.sum(PRODUCT, 1, Ok(vec![along]))?[0];
        if along.is_nan() || along <= 0.0 {
            return Err(Error::StepTooSmall { rank: self.ranks.rank(), step: h });
        }
        let Tried { measured, record, curvature, .. } = self.attempt(v, w, scheme, h, known)?;
        let product = measured.product(&record);
        Ok(AtStep { product, record, realised: measured.realised, curvature })
    }

    /// Forgets what earlier products told of the curvature: the next one starts as the first of a probe does.
    pub(crate) fn forget(&mut self) {
        self.last = None;
        self.calibration.curvature.clear();
    }

    /// From here on products are computed as `config` says, in the precision of the loan.
    pub(crate) fn set_config(&mut self, config: &'a HvpConfig) {
        self.config = config;
        // A host differentiates where its parameters are, and differences leave them where they were last.
        if config.difference == Difference::Exact
            && let Err(error) = self.guard.return_to_origin()
        {
            self.pending.get_or_insert(error);
        }
    }

    /// The unit roundoff of the least precise parameter as the forward pass uses it.
    pub(crate) fn roundoff(&self) -> f64 {
        self.guard.roundoff()
    }
}
