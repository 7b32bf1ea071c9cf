//! From the command line to the library's configuration.

use crate::arguments::{Blocks, Precision, SpectrumArguments};
use hessian_probe::blocks::{BlocksConfig, By};
use hessian_probe::config::{Difference, HvpConfig, LogConfig, SlqConfig};
use hessian_probe::{OnError, ProbeConfig};
use hessian_probe_fsdp::{Attention, Dtype, EvaluationConfig};

/// How the model is evaluated.
pub fn evaluation(arguments: &SpectrumArguments) -> Result<EvaluationConfig, String> {
    let dtype = match arguments.dtype {
        Precision::F32 => Dtype::F32,
        Precision::F64 => Dtype::F64,
        Precision::Bf16 => Dtype::Bf16,
    };
    // libtorch's fused attention has no second derivative.
    let exact = arguments.difference == Difference::Exact;
    let attention = if exact { Attention::Plain } else { Attention::Sdpa };
    Ok(EvaluationConfig { dtype, attention, ..EvaluationConfig::default() })
}

/// The probe of a model with `parameters` parameters.
pub fn probe(arguments: &SpectrumArguments, parameters: u64) -> Result<ProbeConfig, String> {
    let by = match arguments.blocks {
        Blocks::None => By::None,
        Blocks::Layer => By::Layer,
        Blocks::Tensor => By::Tensor,
    };
    let blocks = BlocksConfig { by, ..BlocksConfig::default() };
    let log = match &arguments.logdir {
        Some(dir) => LogConfig { dir: dir.clone(), ..LogConfig::default() },
        None => LogConfig { tensorboard: false, jsonl: false, ..LogConfig::default() },
    };
    let slq = SlqConfig {
        steps: steps(arguments, parameters),
        probes: arguments.probes.get(),
        reorthogonalize: arguments.reorthogonalize,
        seed: arguments.seed,
        ..SlqConfig::default()
    };
    let hvp = HvpConfig {
        difference: arguments.difference,
        step_size: arguments.step_size,
        ..HvpConfig::default()
    };
    Ok(ProbeConfig { on_error: OnError::Stop, slq, hvp, blocks, log, ..ProbeConfig::default() })
}

/// As many as asked for and as there can be: a Krylov space has at most n dimensions.
fn steps(arguments: &SpectrumArguments, parameters: u64) -> usize {
    arguments.steps.get().min(usize::try_from(parameters).unwrap_or(usize::MAX))
}
