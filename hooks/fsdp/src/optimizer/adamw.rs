//! AdamW (Loshchilov, Hutter, *Decoupled Weight Decay Regularization*, 2019), PyTorch's formula.

use crate::error::{At, Error, Result};
use crate::model::scalar;
use crate::precision::{Dtype, cast, wider};
use crate::sharding::ShardedParameters;
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor, no_grad_guard};

/// Constants of AdamW and the clipping before it.
///
/// ```
/// use hessian_probe_fsdp::AdamWConfig;
///
/// let config: AdamWConfig = toml::from_str("lr = 3e-4\nclip_norm = 1.0")?;
/// config.validate()?;
/// assert_eq!(config, AdamWConfig { lr: 3e-4, clip_norm: Some(1.0), ..AdamWConfig::default() });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// The learning rate at the schedule's factor 1.
    #[serde(default = "default_lr")]
    pub lr: f64,
    /// Decay rates of the two moments, in `[0, 1)`.
    #[serde(default = "default_betas")]
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled weight decay λ of parameters with two dimensions; norms do not decay.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// The global gradient norm above which gradients are scaled down; no clipping where absent.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// The type in which the two moments are kept; that of the parameters where absent. With bf16 parameters,
    /// `"f32"` keeps what bf16 rounds away: a second moment changes by a factor of 1 − β₂ at most, which is less
    /// than bf16 can express from β₂ = 0.998 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dtype: Option<Dtype>,
}

fn default_lr() -> f64 {
    1e-3
}

fn default_betas() -> (f64, f64) {
    (0.9, 0.95)
}

fn default_eps() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    0.1
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            lr: default_lr(),
            betas: default_betas(),
            eps: default_eps(),
            weight_decay: default_weight_decay(),
            clip_norm: None,
            state_dtype: None,
        }
    }
}

impl AdamWConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Config`] with the first key at fault.
    pub fn validate(&self) -> Result<()> {
        let invalid = |key: &str, reason: String| Err(Error::config(format!("optimizer.{key}"), reason));
        for (key, value) in [("lr", self.lr), ("weight_decay", self.weight_decay)] {
            if !(value.is_finite() && value >= 0.0) {
                return invalid(key, format!("is {value}, must be at least 0"));
            }
        }
        for beta in [self.betas.0, self.betas.1] {
            if !(0.0..1.0).contains(&beta) {
                return invalid("betas", format!("has {beta}, must be in [0, 1)"));
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return invalid("eps", format!("is {}, must be positive", self.eps));
        }
        match self.clip_norm {
            Some(norm) if norm.is_nan() || norm <= 0.0 => {
                invalid("clip_norm", format!("is {norm}, must be positive; leave it out for no clipping"))
            }
            _ => Ok(()),
        }
    }
}

/// The optimizer's state on one rank: two moments per element that it owns.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    /// `(start, length)` ranges of each block's shard that decay.
    decayed: Vec<Vec<(i64, i64)>>,
}

impl AdamW {
    /// Moments of zero for this rank's slices of `parameters`.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch) when memory is short.
    pub fn new(config: AdamWConfig, parameters: &ShardedParameters) -> Result<Self> {
        let rank = parameters.rank();
        let zeros = || {
            let zeros = parameters.flat_shards().iter().map(|shard| {
                let kind = config.state_dtype.map_or_else(|| shard.f_kind(), |dtype| Ok(dtype.kind()))?;
                Tensor::f_zeros(shard.size(), (kind, shard.device()))
            });
            zeros.collect::<Result<Vec<_>, _>>().at(rank, || "the optimizer's state")
        };
        let decayed = parameters.layouts().iter().map(|layout| {
            let matrices = layout.parameters.iter().filter(|parameter| decays(&parameter.spec.shape));
            matrices
                .map(|parameter| layout.slice(rank, parameter))
                .filter(|slice| slice.len > 0)
                .map(|slice| (slice.shard_start as i64, slice.len as i64))
                .collect()
        });
        Ok(Self { config, steps: 0, first: zeros()?, second: zeros()?, decayed: decayed.collect() })
    }

    /// The constants.
    #[must_use]
    pub fn config(&self) -> &AdamWConfig {
        &self.config
    }

    /// The number of steps taken, `t` in the bias corrections.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Goes on as after `steps` steps; the moments are set through their tensors.
    pub(crate) fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// First moments `m`, one flat tensor per block, laid out like the parameters.
    pub(crate) fn first_moments(&self) -> &[Tensor] {
        &self.first
    }

    /// Second moments `v`, likewise.
    pub(crate) fn second_moments(&self) -> &[Tensor] {
        &self.second
    }

    /// `(start, length)` ranges of each block's shard that decay.
    pub(super) fn decayed(&self) -> &[Vec<(i64, i64)>] {
        &self.decayed
    }

    /// λ of a parameter of these dimensions: [`AdamWConfig::weight_decay`] of matrices, 0 of the others.
    pub(crate) fn decay_of(&self, shape: &[i64]) -> f64 {
        if decays(shape) { self.config.weight_decay } else { 0.0 }
    }

    /// One step with learning rate `lr` on this rank's slices, with gradients scaled by `clip` first:
    ///
    /// ```text
    /// g ← clip · g          θ ← θ − lr λ θ        (matrices only)
    /// m ← β₁ m + (1−β₁) g   v ← β₂ v + (1−β₂) g²
    /// θ ← θ − lr/(1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε)
    /// ```
    ///
    /// Computed in the widest of f32, the parameters' type and the moments'; the results are rounded to the type in
    /// which each is kept, once. Needs two temporary tensors of the size of the largest block's slice, and one
    /// more for each of θ, m, v and g that is narrower.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch) when memory is short.
    pub(crate) fn step(
        &mut self,
        parameters: &ShardedParameters,
        gradients: &[Tensor],
        lr: f64,
        clip: f64,
    ) -> Result<()> {
        let _no_grad = no_grad_guard();
        self.steps += 1;
        for (block, (parameter, gradient)) in parameters.flat_shards().iter().zip(gradients).enumerate() {
            self.step_block(block, parameter, gradient, lr, clip)
                .at(parameters.rank(), || format!("the optimizer's step of block number {block}"))?;
        }
        Ok(())
    }

    fn step_block(
        &mut self,
        block: usize,
        parameter: &Tensor,
        gradient: &Tensor,
        lr: f64,
        clip: f64,
    ) -> Result<(), TchError> {
        let (Some(first), Some(second), Some(decayed)) =
            (self.first.get_mut(block), self.second.get_mut(block), self.decayed.get(block))
        else {
            return Ok(());
        };
        let AdamWConfig { betas: (beta1, beta2), eps, weight_decay, .. } = self.config;
        let kind = wider(wider(parameter.f_kind()?, first.f_kind()?), Kind::Float);
        let device = parameter.device();
        // Of the kind already: the tensor itself, which is changed in place.
        let wide_parameter = cast(parameter, kind)?;
        let gradient = cast(gradient, kind)?;
        let (mut wide_first, mut wide_second) = (cast(first, kind)?, cast(second, kind)?);
        let number = |value: f64| scalar(value, kind, device);
        let t = self.steps as f64;

        // In-place methods return one more reference to the tensor, which is dropped.
        if clip < 1.0 {
            let _ = gradient.shallow_clone().f_mul_(&number(clip)?)?;
        }
        if weight_decay > 0.0 {
            let keep = number(1.0 - lr * weight_decay)?;
            for &(start, length) in decayed {
                let _ = wide_parameter.f_narrow(0, start, length)?.f_mul_(&keep)?;
            }
        }
        let _ = wide_first.f_lerp_tensor_(&gradient, &number(1.0 - beta1)?)?;
        let _ = wide_second
            .f_mul_(&number(beta2)?)?
            .f_addcmul_(&gradient.f_mul(&number(1.0 - beta2)?)?, &gradient)?;

        let correction = number((1.0 - beta2.powf(t)).sqrt())?;
        let denominator = wide_second.f_sqrt()?.f_div_(&correction)?.f_add_(&number(eps)?)?;
        let update = wide_first.f_div(&denominator)?.f_mul_(&number(lr / (1.0 - beta1.powf(t)))?)?;
        let _ = wide_parameter.shallow_clone().f_sub_(&update)?;
        for (kept, wide) in
            [(&mut parameter.shallow_clone(), &wide_parameter), (first, &wide_first), (second, &wide_second)]
        {
            if kept.f_kind()? != kind {
                kept.f_copy_(wide)?;
            }
        }
        Ok(())
    }
}

/// Whether a parameter of these dimensions decays: a matrix does.
fn decays(shape: &[i64]) -> bool {
    shape.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Llama, LlamaConfig};
    use crate::optimizer::{clip_coefficient, squared_norm};
    use tch::Device;

    /// PyTorch's single-tensor AdamW for one element.
    struct Reference {
        value: f64,
        first: f64,
        second: f64,
    }

    impl Reference {
        fn step(&mut self, config: &AdamWConfig, decay: f64, lr: f64, gradient: f64, t: i32) {
            let (beta1, beta2) = config.betas;
            self.value -= lr * decay * self.value;
            self.first = beta1 * self.first + (1.0 - beta1) * gradient;
            self.second = beta2 * self.second + (1.0 - beta2) * gradient * gradient;
            let first = self.first / (1.0 - beta1.powi(t));
            let second = self.second / (1.0 - beta2.powi(t));
            self.value -= lr * first / (second.sqrt() + config.eps);
        }
    }

    fn values(tensor: &Tensor) -> Vec<f64> {
        let mut values = vec![0.0; tensor.numel()];
        tensor.copy_data(&mut values, tensor.numel());
        values
    }

    #[test]
    fn steps_equal_a_reference_with_clipping_and_decay_of_matrices_only() {
        let sizes = r#"{"vocab_size": 7, "hidden_size": 6, "intermediate_size": 5, "num_hidden_layers": 1,
            "num_attention_heads": 3, "num_key_value_heads": 1}"#;
        let model: LlamaConfig = serde_json::from_str(sizes).unwrap();
        let model = Llama::new(model, Kind::Double, Device::Cpu).unwrap();
        let config =
            AdamWConfig { eps: 1e-3, weight_decay: 0.3, clip_norm: Some(4.0), ..AdamWConfig::default() };
        for (rank, world_size) in [(0, 1), (0, 4), (2, 4), (3, 4)] {
            let parameters = ShardedParameters::initialized(&model, rank, world_size, 1).unwrap();
            let mut optimizer = AdamW::new(config, &parameters).unwrap();
            // Norms start with 1 and padding with 0, and nothing else does.
            let mut expected: Vec<Vec<(Reference, f64)>> = parameters
                .flat_shards()
                .iter()
                .map(|shard| {
                    let start = |value: f64| (Reference { value, first: 0.0, second: 0.0 }, value);
                    values(shard).into_iter().map(start).collect()
                })
                .collect();
            for t in 1..=5 {
                let gradients: Vec<Tensor> = parameters
                    .flat_shards()
                    .iter()
                    .map(|shard| {
                        let waves: Vec<f64> =
                            (0..shard.numel()).map(|i| (t as f64 * i as f64).sin()).collect();
                        Tensor::from_slice(&waves)
                    })
                    .collect();
                let norm = squared_norm(&gradients).unwrap().sqrt();
                let clip = clip_coefficient(norm, config.clip_norm);
                assert_eq!(clip, (4.0 / (norm + 1e-6)).min(1.0));
                let lr = 0.1 / t as f64;
                for (shard, gradient) in expected.iter_mut().zip(&gradients) {
                    for ((element, start), gradient) in shard.iter_mut().zip(values(gradient)) {
                        let decay = if [0.0, 1.0].contains(start) { 0.0 } else { 0.3 };
                        element.step(&config, decay, lr, clip * gradient, t);
                    }
                }
                optimizer.step(&parameters, &gradients, lr, clip).unwrap();
                for (shard, expected) in parameters.flat_shards().iter().zip(&expected) {
                    for (found, (expected, _)) in values(shard).into_iter().zip(expected) {
                        assert!((found - expected.value).abs() < 1e-13, "{found} {}", expected.value);
                    }
                }
            }
            assert_eq!(optimizer.steps(), 5);
        }
    }

    /// The same step in f32, with each result rounded once where it is kept.
    #[test]
    fn narrow_parameters_and_moments_are_rounded_only_when_they_are_kept() {
        let sizes = r#"{"vocab_size": 7, "hidden_size": 6, "intermediate_size": 5, "num_hidden_layers": 1,
            "num_attention_heads": 3}"#;
        let model: LlamaConfig = serde_json::from_str(sizes).unwrap();
        let of = |kind, state_dtype| {
            let model = Llama::new(model.clone(), kind, Device::Cpu).unwrap();
            let parameters = ShardedParameters::initialized(&model, 0, 1, 1).unwrap();
            let config = AdamWConfig { weight_decay: 0.3, state_dtype, ..AdamWConfig::default() };
            let optimizer = AdamW::new(config, &parameters).unwrap();
            (parameters, optimizer)
        };
        let gradients = |parameters: &ShardedParameters, t: usize| -> Vec<Tensor> {
            let wave = |shard: &Tensor| {
                let waves: Vec<f32> = (0..shard.numel()).map(|i| (t as f32 * i as f32).sin()).collect();
                Tensor::from_slice(&waves).to_kind(Kind::BFloat16)
            };
            parameters.flat_shards().iter().map(wave).collect()
        };
        let cases = [
            (Kind::BFloat16, None, Kind::BFloat16),
            (Kind::BFloat16, Some(Dtype::F32), Kind::Float),
            (Kind::Float, Some(Dtype::Bf16), Kind::BFloat16),
        ];
        for (kind, state_dtype, state_kind) in cases {
            let (parameters, mut narrow) = of(kind, state_dtype);
            let (wide_parameters, mut wide) = of(Kind::Float, None);
            for t in 1..=4 {
                let states = |parameters: &ShardedParameters, optimizer: &AdamW| -> [Vec<Tensor>; 3] {
                    let clone = |tensors: &[Tensor]| tensors.iter().map(Tensor::shallow_clone).collect();
                    [parameters.flat_shards(), &optimizer.first, &optimizer.second].map(clone)
                };
                let (mine, reference) = (states(&parameters, &narrow), states(&wide_parameters, &wide));
                for (to, from) in reference.iter().flatten().zip(mine.iter().flatten()) {
                    to.shallow_clone().copy_(from);
                }
                // Clipping scales a copy in f32, too.
                let wide_gradients: Vec<Tensor> =
                    gradients(&parameters, t).iter().map(|gradient| gradient.to_kind(Kind::Float)).collect();
                wide.step(&wide_parameters, &wide_gradients, 0.01, 0.7).unwrap();
                narrow.step(&parameters, &gradients(&parameters, t), 0.01, 0.7).unwrap();
                for (index, (mine, reference)) in mine.iter().zip(&reference).enumerate() {
                    for (mine, reference) in mine.iter().zip(reference) {
                        let kept = if index == 0 { kind } else { state_kind };
                        assert_eq!(mine.kind(), kept);
                        assert_eq!(
                            values(&mine.to_kind(Kind::Double)),
                            values(&reference.to_kind(kept).to_kind(Kind::Double))
                        );
                    }
                }
            }
        }
    }
}
