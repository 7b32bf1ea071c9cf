//! Which type each part of a step is stored, sent and computed in.
//!
//! ```text
//! shards (dtype) ── cast ── all-gather (param_dtype) ── cast ── forward, backward (compute_dtype)
//!       ▲                                                              │ cast
//!       └─ AdamW (f32 or wider) ── gradient shards (dtype) ◄── reduce-scatter (reduce_dtype)
//! ```
//!
//! The crate's page has the meaning of each key, and [`hessian_probe::Precision::Full`] what a probe may ask for
//! instead.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

/// The type of numbers, from narrow to wide.
///
/// ```
/// use hessian_probe_fsdp::Dtype;
///
/// assert_eq!(Dtype::Bf16.kind(), tch::Kind::BFloat16);
/// assert!(Dtype::Bf16 < Dtype::F64);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 16 bits, 8 of them significant: bfloat16.
    Bf16,
    /// 32 bits.
    #[default]
    F32,
    /// 64 bits.
    F64,
}

impl Dtype {
    /// tch's name for it.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Bf16 => Kind::BFloat16,
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
        }
    }

    /// safetensors' name for it.
    pub(crate) fn safetensors(self) -> safetensors::Dtype {
        match self {
            Self::Bf16 => safetensors::Dtype::BF16,
            Self::F32 => safetensors::Dtype::F32,
            Self::F64 => safetensors::Dtype::F64,
        }
    }

    /// The size of an element.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// The table `[mixed_precision]`: keys and defaults are those of FSDP's `MixedPrecisionPolicy`, and
/// `compute_dtype`, which FSDP does not tell apart from `param_dtype`. All absent, the default, is no mixed
/// precision: everything is in [`TrainerConfig::dtype`](crate::TrainerConfig::dtype).
///
/// ```
/// use hessian_probe_fsdp::{Dtype, MixedPrecision, TrainerConfig};
///
/// let config: TrainerConfig = toml::from_str(
///     r#"
///     batch_size = 16
///     sequence_length = 128
///     model = { vocab_size = 256, hidden_size = 64, intermediate_size = 160, num_hidden_layers = 4,
///               num_attention_heads = 4 }
///
///     [mixed_precision]
///     param_dtype = "bf16"
///     reduce_dtype = "f32"
///     "#,
/// )?;
/// assert_eq!(config.dtype, Dtype::F32, "of the masters");
/// assert_eq!(config.mixed_precision, MixedPrecision { reduce_dtype: Some(Dtype::F32), ..MixedPrecision::bf16() });
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedPrecision {
    /// What shards are cast to before they are gathered; not wider than the shards' own. Default: theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param_dtype: Option<Dtype>,
    /// What gathered parameters are cast to, and so what activations and their gradients are computed in. Default:
    /// `param_dtype`. A wider one evaluates the rounded parameters with less rounding of activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_dtype: Option<Dtype>,
    /// What gradients are cast to before they are summed over ranks, on one rank, too. Default: `param_dtype`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce_dtype: Option<Dtype>,
}

impl MixedPrecision {
    /// Gather, compute and reduction in bf16.
    #[must_use]
    pub fn bf16() -> Self {
        Self { param_dtype: Some(Dtype::Bf16), ..Self::default() }
    }

    /// Whether nothing is said, for serde.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What each part is in, with shards of type `dtype`.
    #[must_use]
    pub fn policy(&self, dtype: Dtype) -> PrecisionPolicy {
        let gather = self.param_dtype.unwrap_or(dtype);
        PrecisionPolicy {
            parameters: dtype.kind(),
            gather: gather.kind(),
            compute: self.compute_dtype.unwrap_or(gather).kind(),
            reduce: self.reduce_dtype.unwrap_or(gather).kind(),
        }
    }

    /// Checks the keys against each other, with shards of type `dtype`.
    ///
    /// # Errors
    /// [`Error::Config`] with the key at fault.
    pub fn validate(&self, dtype: Dtype) -> Result<()> {
        match self.param_dtype {
            Some(gather) if gather > dtype => Err(Error::config(
                "mixed_precision.param_dtype",
                format!(
                    "{gather:?} is wider than the parameters, which are {dtype:?}: more would be sent, and nothing \
                     gained. Set `dtype` for wider parameters, `mixed_precision.compute_dtype` for wider activations"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// A resolved [`MixedPrecision`]: what each part of a step is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrecisionPolicy {
    /// The shards, and the gradient's.
    pub parameters: Kind,
    /// What is gathered.
    pub gather: Kind,
    /// Parameters, activations and gradients of the forward and backward pass.
    pub compute: Kind,
    /// What is summed over ranks.
    pub reduce: Kind,
}

impl PrecisionPolicy {
    /// Everything in `kind`.
    #[must_use]
    pub fn uniform(kind: Kind) -> Self {
        Self { parameters: kind, gather: kind, compute: kind, reduce: kind }
    }

    /// Everything in the shards' own type, or in f32 where that is wider.
    #[must_use]
    pub fn full(&self) -> Self {
        Self::uniform(wider(self.parameters, Kind::Float))
    }

    /// The narrower type that parameters are rounded to on their way into the forward pass.
    #[must_use]
    pub fn rounds_to(&self) -> Option<Kind> {
        let narrowest = if width(self.compute) < width(self.gather) { self.compute } else { self.gather };
        (width(narrowest) < width(self.parameters)).then_some(narrowest)
    }
}

fn width(kind: Kind) -> usize {
    kind.elt_size_in_bytes()
}

/// The wider of two floating-point types.
pub(crate) fn wider(first: Kind, second: Kind) -> Kind {
    if width(second) > width(first) { second } else { first }
}

/// `tensor` in `kind`: an alias where it is of that kind already.
pub(crate) fn cast(tensor: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
    if tensor.f_kind()? == kind { Ok(tensor.shallow_clone()) } else { tensor.f_to_kind(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_parameters_and_then_what_is_gathered() {
        let policy = |keys: &str, dtype| toml::from_str::<MixedPrecision>(keys).unwrap().policy(dtype);
        let (bf16, float, double) = (Kind::BFloat16, Kind::Float, Kind::Double);
        for dtype in [Dtype::Bf16, Dtype::F32, Dtype::F64] {
            assert_eq!(policy("", dtype), PrecisionPolicy::uniform(dtype.kind()));
            assert_eq!(policy("", dtype).rounds_to(), None);
        }
        let mixed = policy("param_dtype = 'bf16'", Dtype::F32);
        assert_eq!((mixed.parameters, mixed.gather, mixed.compute, mixed.reduce), (float, bf16, bf16, bf16));
        assert_eq!((mixed.rounds_to(), mixed.full()), (Some(bf16), PrecisionPolicy::uniform(float)));
        let wide_sums = policy("param_dtype = 'bf16'\nreduce_dtype = 'f32'", Dtype::F64);
        assert_eq!((wide_sums.compute, wide_sums.reduce), (bf16, float));
        assert_eq!(wide_sums.full(), PrecisionPolicy::uniform(double));
        let rounded_weights = policy("param_dtype = 'bf16'\ncompute_dtype = 'f32'", Dtype::F32);
        assert_eq!((rounded_weights.compute, rounded_weights.rounds_to()), (float, Some(bf16)));
        let narrow_compute = policy("compute_dtype = 'bf16'", Dtype::F32);
        assert_eq!((narrow_compute.gather, narrow_compute.rounds_to()), (float, Some(bf16)));
        let pure = policy("compute_dtype = 'f32'", Dtype::Bf16);
        assert_eq!((pure.rounds_to(), pure.full()), (None, PrecisionPolicy::uniform(float)));
    }

    #[test]
    fn gathering_in_more_than_there_is_is_refused() {
        let error = MixedPrecision { param_dtype: Some(Dtype::F32), ..MixedPrecision::default() }
            .validate(Dtype::Bf16)
            .unwrap_err()
            .to_string();
        assert!(error.contains("mixed_precision.param_dtype") && error.contains("compute_dtype"), "{error}");
        MixedPrecision::bf16().validate(Dtype::Bf16).unwrap();
    }
}
