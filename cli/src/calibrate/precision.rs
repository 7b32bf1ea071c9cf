//! The precisions that are measured.

use clap::ValueEnum;
use hessian_probe_fsdp::{Attention, Dtype, EvaluationConfig, MixedPrecision};
use std::fmt;
use tch::Kind;

/// In which types a model is held and evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// Parameters and passes in 32 bits
    F32,
    /// Parameters in 32 bits, rounded to bfloat16 for passes in bfloat16
    Bf16Compute,
    /// Parameters and passes in bfloat16
    Bf16,
    /// Parameters and passes in 64 bits
    F64,
}

impl Precision {
    /// How the model is evaluated.
    pub fn evaluation(self) -> EvaluationConfig {
        let (dtype, mixed_precision) = match self {
            Self::F32 => (Dtype::F32, MixedPrecision::default()),
            Self::Bf16Compute => (Dtype::F32, MixedPrecision::bf16()),
            Self::Bf16 => (Dtype::Bf16, MixedPrecision::default()),
            Self::F64 => (Dtype::F64, MixedPrecision::default()),
        };
        EvaluationConfig { dtype, mixed_precision, attention: Attention::Sdpa, ..EvaluationConfig::default() }
    }

    /// What parameters are rounded to before the forward pass uses them.
    pub fn rounds_to(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16Compute | Self::Bf16 => Kind::BFloat16,
            Self::F64 => Kind::Double,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::Bf16Compute => "bf16-compute",
            Self::Bf16 => "bf16",
            Self::F64 => "f64",
        })
    }
}
