//! One difference of gradients, reduced over ranks.

use crate::error::{Error, Result};
use crate::krylov::{Operator, Product};
use crate::operator::calibration::AT_THETA;
use crate::operator::difference::{self, From};
use crate::operator::finite_difference::FiniteDifference;
use crate::operator::product::{PRODUCT, ProductRecord};
use crate::operator::step::ratio;
use crate::sharded::vector::{ShardedVector, chunks};
use tch::{TchError, Tensor};

/// The reduced sums of one difference.
pub(super) struct Measured {
    /// The realised step h̄.
    pub(super) realised: f64,
    /// What `w` must be multiplied by to become Hv.
    pub(super) scale: f64,
    /// o = h̄‖Hv‖: half the norm of g₊ − g₋ (central) or the norm of g₊ − g₀ (forward).
    pub(super) odd: f64,
    /// The norm of g₊ + g₋ − 2g₀, where it was taken.
    pub(super) even: Option<f64>,
    /// ⟨g₊ + g₋ − 2g₀, v⟩, where it was asked for.
    pub(super) even_along: f64,
    /// The relative truncation error of a second-order difference with this step, as far as a fourth-order one
    /// shows it: a lower bound. 0 where it was not taken.
    pub(super) truncation: f64,
    /// vᵀHv.
    pub(super) alpha: f64,
    pub(super) rounding: f64,
}

impl Measured {
    /// ‖Hv‖.
    pub(super) fn norm(&self) -> f64 {
        self.odd / self.realised
    }

    /// What Lanczos is told; `record` has the predicted relative error.
    pub(super) fn product(&self, record: &ProductRecord) -> Product {
        let norm = self.norm();
        Product { scale: self.scale, alpha: self.alpha, norm, error: record.error * norm }
    }
}

impl FiniteDifference<'_, '_> {
    /// The host's gradient. A failure is kept until the next sum: the other ranks are on their way there.
    pub(super) fn gradient(&mut self, during: &'static str) -> Option<Vec<Tensor>> {
        match self.guard.gradient(during) {
            Ok((loss, tensors)) => {
                if during == AT_THETA {
                    self.loss = loss;
                }
                Some(tensors)
            }
            Err(error) => {
                self.pending.get_or_insert(error);
                None
            }
        }
    }

    /// Fails on every rank alike, since `value` was reduced.
    pub(super) fn finite(&self, value: f64, what: &'static str, during: &'static str) -> Result<()> {
        if value.is_finite() {
            Ok(())
        } else {
            Err(Error::NonFinite { rank: self.ranks.rank(), what, during })
        }
    }

    pub(super) fn displace(&mut self, v: &Tensor, h: f64, from: From) -> [f64; 2] {
        match difference::displace(&self.guard, self.layout, v, h, from) {
            Ok(sums) => sums,
            Err(error) => {
                self.defer(PRODUCT, Err(error));
                [0.0; 2]
            }
        }
    }

    /// w ← g(θ + hv) − g(θ − hv).
    pub(super) fn central(
        &mut self,
        v: &Tensor,
        h: f64,
        w: &mut Tensor,
        during: &'static str,
    ) -> Result<Measured> {
        self.two_sided(v, h, w, false, during)
    }

    /// As [`central`](Self::central), `with_even` also with the even part along v.
    pub(super) fn two_sided(
        &mut self,
        v: &Tensor,
        h: f64,
        w: &mut Tensor,
        with_even: bool,
        during: &'static str,
    ) -> Result<Measured> {
        self.displace(v, h, From::Nowhere);
        if let Some(plus) = self.gradient(during) {
            let mut stored = ShardedVector::alias(w);
            let copied = stored.gather_from(self.layout, &plus);
            self.defer(during, copied);
        }
        let moved = self.displace(v, -h, From::Present);
        let local = match self.gradient(during) {
            Some(minus) => difference::central(self.layout, w, &minus, self.origin.tensor(), v, with_even),
            None => Ok([0.0; 4]),
        };
        // Five values a product; the sixth only where it is asked for.
        let len = if with_even { 6 } else { 5 };
        let local = local.map(|[odd, even, along, even_along]| {
            [moved[0], moved[1], odd, even, along, even_along][..len].to_vec()
        });
        let reduced = self.sum(during, len, local)?;
        // Δ = θ₋ − θ₊ points backwards and is two steps long.
        let realised = -reduced[0] / 2.0;
        let length = reduced[1].sqrt() / 2.0;
        self.check(&reduced, realised, h, during)?;
        Ok(Measured {
            realised,
            scale: 0.5 / realised,
            odd: reduced[2].sqrt() / 2.0,
            even: Some(reduced[3].sqrt()),
            even_along: reduced.get(5).copied().unwrap_or(0.0),
            truncation: 0.0,
            alpha: reduced[4] / (2.0 * realised),
            rounding: off_axis(length, realised),
        })
    }

    /// w ← 8[g(θ + hv) − g(θ − hv)] − [g(θ + 2hv) − g(θ − 2hv)].
    ///
    /// With h̄ and 2h̄′ the realised steps, that is (16h̄ − 4h̄′)·Hv but for terms of fifth order (and of third
    /// order in the difference of h̄ and h̄′, which is rounding).
    pub(super) fn central4(&mut self, v: &Tensor, h: f64, w: &mut Tensor) -> Result<Measured> {
        let inner = self.central(v, h, w, PRODUCT)?;
        self.displace(v, 2.0 * h, From::Nowhere);
        if let Some(plus) = self.gradient(PRODUCT) {
            let combined = difference::outer_plus(self.layout, w, &plus, self.origin.tensor());
            self.defer(PRODUCT, combined);
        }
        let moved = self.displace(v, -2.0 * h, From::Present);
        let local = match self.gradient(PRODUCT) {
            Some(minus) => difference::outer_minus(self.layout, w, &minus, self.origin.tensor(), v),
            None => Ok([0.0; 2]),
        };
        let local = local.map(|[odd, along]| vec![moved[0], moved[1], odd, along]);
        let reduced = self.sum(PRODUCT, 4, local)?;
        let outer = -reduced[0] / 2.0;
        let length = 16.0 * inner.realised - 2.0 * outer;
        self.check(&reduced, length.min(outer), h, PRODUCT)?;
        let norm = reduced[2].sqrt() / length;
        let alpha = reduced[3] / length;
        let off = (inner.norm() - norm).abs().max((inner.alpha - alpha).abs());
        Ok(Measured {
            scale: length.recip(),
            truncation: ratio(off, norm),
            // The parity ratio goes with the inner pair, ‖Hv‖ with the whole.
            odd: norm * inner.realised,
            alpha,
            ..inner
        })
    }

    /// w ← Hv, as the host computes it.
    pub(super) fn exact(&mut self, v: &Tensor, w: &mut Tensor) -> Result<(f64, f64)> {
        let aligned = self.aligned(v);
        let product = match aligned {
            Ok(aligned) => self.guard.exact_hvp(&aligned, PRODUCT),
            Err(source) => Err(Error::Torch { rank: self.ranks.rank(), during: PRODUCT, source }),
        };
        let local = match product {
            Ok(product) => difference::take(self.layout, w, &product, v),
            Err(error) => {
                self.pending.get_or_insert(error);
                Ok([0.0; 2])
            }
        };
        let reduced = self.sum(PRODUCT, 2, local.map(|sums| sums.to_vec()))?;
        for &sum in &reduced {
            self.finite(sum, "the Hessian-vector product", PRODUCT)?;
        }
        Ok((reduced[0].sqrt(), reduced[1]))
    }

    /// A local vector as one tensor for each shard, of its shape and type.
    fn aligned(&self, v: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let _no_grad = tch::no_grad_guard();
        let mut aligned: Vec<Tensor> =
            self.guard.shards().iter().map(|shard| shard.tensor.f_zeros_like()).collect::<Result<_, _>>()?;
        for chunk in chunks(self.layout) {
            chunk.of_shard(&aligned)?.f_copy_(&chunk.of(v)?)?;
        }
        for tensor in &mut aligned {
            *tensor = tensor.f_detach()?;
        }
        Ok(aligned)
    }

    /// w ← g(θ + hv) − g(θ).
    pub(super) fn forward(&mut self, v: &Tensor, h: f64, w: &mut Tensor) -> Result<Measured> {
        let moved = self.displace(v, h, From::Saved);
        let local = match self.gradient(PRODUCT) {
            Some(plus) => difference::forward(self.layout, w, &plus, self.origin.tensor(), v),
            None => Ok([0.0; 2]),
        };
        let local = local.map(|[odd, along]| vec![moved[0], moved[1], odd, along]);
        let reduced = self.sum(PRODUCT, 4, local)?;
        let realised = reduced[0];
        self.check(&reduced, realised, h, PRODUCT)?;
        Ok(Measured {
            realised,
            scale: 1.0 / realised,
            odd: reduced[2].sqrt(),
            even: None,
            even_along: 0.0,
            truncation: 0.0,
            alpha: reduced[3] / realised,
            rounding: off_axis(reduced[1].sqrt(), realised),
        })
    }

    pub(super) fn check(&self, reduced: &[f64], realised: f64, h: f64, during: &'static str) -> Result<()> {
        for &sum in reduced {
            self.finite(sum, "the gradient", during)?;
        }
        if realised > 0.0 { Ok(()) } else { Err(Error::StepTooSmall { rank: self.ranks.rank(), step: h }) }
    }
}

/// ρ = ‖Δ/h̄ − v‖ for a displacement of length `length` whose part along the unit vector v is h̄.
fn off_axis(length: f64, realised: f64) -> f64 {
    ((length / realised).powi(2) - 1.0).max(0.0).sqrt()
}
