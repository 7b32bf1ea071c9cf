//! What a step changes, without taking it.

use super::AdamW;
use super::adamw::AdamWConfig;
use crate::error::{At, Result};
use crate::model::scalar;
use crate::precision::{cast, wider};
use crate::sharding::ShardedParameters;
use tch::{Kind, TchError, Tensor, no_grad_guard};

impl AdamW {
    /// The change of the parameters that the [step](Self::step) with these arguments would make, before it is rounded to
    /// their type. Nothing is changed.
    ///
    /// # Errors
    /// [`Torch`](crate::Error::Torch) when memory is short.
    pub(crate) fn coming_update(
        &self,
        parameters: &ShardedParameters,
        gradients: &[Tensor],
        lr: f64,
        clip: f64,
    ) -> Result<Vec<Tensor>> {
        let _no_grad = no_grad_guard();
        let (beta1, beta2) = self.config().betas;
        let keep = 1.0 - lr * self.config().weight_decay;
        self.updates(parameters, |block, parameter, kind| {
            let number = |value: f64| scalar(value, kind, parameter.device());
            let gradient = cast(&gradients[block], kind)?.f_mul(&number(clip.min(1.0))?)?;
            let first =
                cast(&self.first_moments()[block], kind)?.f_lerp_tensor(&gradient, &number(1.0 - beta1)?)?;
            let second = cast(&self.second_moments()[block], kind)?
                .f_mul(&number(beta2)?)?
                .f_addcmul(&gradient.f_mul(&number(1.0 - beta2)?)?, &gradient)?;
            let update = self.direction(&first, &second, self.steps() + 1, lr)?.f_neg()?;
            for &(start, length) in &self.decayed()[block] {
                let own = cast(&parameter.f_narrow(0, start, length)?, kind)?;
                let _ = update.f_narrow(0, start, length)?.f_add_(&own.f_mul(&number(keep - 1.0)?)?)?;
            }
            Ok(update)
        })
    }

    /// The change that the last step made, with the learning rate that it had, from what it left: θ and the moments.
    /// `None` where decay has left nothing of θ before it.
    ///
    /// # Errors
    /// [`Torch`](crate::Error::Torch) when memory is short.
    pub(crate) fn last_update(&self, parameters: &ShardedParameters, lr: f64) -> Result<Option<Vec<Tensor>>> {
        let _no_grad = no_grad_guard();
        let keep = 1.0 - lr * self.config().weight_decay;
        if keep == 0.0 {
            return Ok(None);
        }
        self.updates(parameters, |block, parameter, kind| {
            let (first, second) =
                (cast(&self.first_moments()[block], kind)?, cast(&self.second_moments()[block], kind)?);
            let update = self.direction(&first, &second, self.steps(), lr)?.f_neg()?;
            // θ = keep·θ_before + update, and so θ − θ_before = update/keep + (1 − 1/keep)·θ.
            for &(start, length) in &self.decayed()[block] {
                let number = |value: f64| scalar(value, kind, parameter.device());
                let own = cast(&parameter.f_narrow(0, start, length)?, kind)?;
                let decayed = own.f_mul(&number(1.0 - keep.recip())?)?;
                let mut update = update.f_narrow(0, start, length)?;
                let _ = update.f_mul_(&number(keep.recip())?)?.f_add_(&decayed)?;
            }
            Ok(update)
        })
        .map(Some)
    }

    /// lr/(1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε).
    fn direction(&self, first: &Tensor, second: &Tensor, steps: u64, lr: f64) -> Result<Tensor, TchError> {
        let AdamWConfig { betas: (beta1, beta2), eps, .. } = *self.config();
        let (kind, t) = (first.f_kind()?, steps as f64);
        let number = |value: f64| scalar(value, kind, first.device());
        let denominator =
            second.f_sqrt()?.f_div(&number((1.0 - beta2.powf(t)).sqrt())?)?.f_add(&number(eps)?)?;
        first.f_div(&denominator)?.f_mul(&number(lr / (1.0 - beta1.powf(t)))?)
    }

    /// One tensor for each block, of the kind that steps are computed in.
    fn updates(
        &self,
        parameters: &ShardedParameters,
        of: impl Fn(usize, &Tensor, Kind) -> Result<Tensor, TchError>,
    ) -> Result<Vec<Tensor>> {
        let update = |(block, parameter): (usize, &Tensor)| {
            let kind = || -> Result<Kind, TchError> {
                Ok(wider(wider(parameter.f_kind()?, self.first_moments()[block].f_kind()?), Kind::Float))
            };
            kind()
                .and_then(|kind| of(block, parameter, kind))
                .at(parameters.rank(), || format!("the optimizer's update of block number {block}"))
        };
        parameters.flat_shards().iter().enumerate().map(update).collect()
    }
}
