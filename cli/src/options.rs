//! From the command line to the library's configuration.

use crate::arguments::{BlockArguments, Precision, SpectrumArguments};
use hessian_probe::blocks::BlocksConfig;
use hessian_probe::config::{BasisConfig, Difference, HvpConfig, LogConfig, SlqConfig};
use hessian_probe::{OnError, ProbeConfig};
use hessian_probe_fsdp::{Attention, Dtype, EvaluationConfig, PassConfig};
use std::num::NonZeroUsize;

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
    let passes = PassConfig { recompute: !arguments.keep_graphs, ..PassConfig::default() };
    Ok(EvaluationConfig { dtype, attention, passes, ..EvaluationConfig::default() })
}

/// The probe of a model with `parameters` parameters.
pub fn probe(arguments: &SpectrumArguments, parameters: u64) -> Result<ProbeConfig, String> {
    let blocks = blocks(&arguments.blocks)?;
    let log = match &arguments.logdir {
        Some(dir) => LogConfig { dir: dir.clone(), ..LogConfig::default() },
        None => LogConfig { tensorboard: false, jsonl: false, ..LogConfig::default() },
    };
    let slq = SlqConfig {
        steps: steps(arguments, parameters),
        probes: arguments.probes.get(),
        reorthogonalize: arguments.reorthogonalize,
        seed: arguments.seed,
        deflate: arguments.deflate,
        basis: BasisConfig { dtype: arguments.basis, ..BasisConfig::default() },
        ..SlqConfig::default()
    };
    let hvp = HvpConfig {
        difference: arguments.difference,
        step_size: arguments.step_size,
        ..HvpConfig::default()
    };
    Ok(ProbeConfig { on_error: OnError::Stop, slq, hvp, blocks, log, ..ProbeConfig::default() })
}

/// What is compared with diagonal blocks, if anything.
fn blocks(arguments: &BlockArguments) -> Result<BlocksConfig, String> {
    let BlockArguments { by, patterns, method, vectors, draws, spectrum_steps, max_hvps } = arguments;
    let default = BlocksConfig::default();
    let config = BlocksConfig {
        by: *by,
        patterns: patterns.clone(),
        method: method.unwrap_or(default.method),
        vectors: vectors.map_or(default.vectors, NonZeroUsize::get),
        draws: draws.unwrap_or(default.draws),
        spectrum_steps: spectrum_steps.unwrap_or(default.spectrum_steps),
        max_hvps: *max_hvps,
        ..default
    };
    let idle = [
        ("--block-method", method.is_some()),
        ("--block-vectors", vectors.is_some()),
        ("--block-draws", draws.is_some()),
        ("--block-steps", spectrum_steps.is_some()),
        ("--max-hvps", max_hvps.is_some()),
    ];
    match idle.into_iter().find(|(_, given)| *given && !config.is_on()) {
        Some((flag, _)) => {
            Err(format!("{flag}: there are no blocks; say which by --blocks or --block-pattern"))
        }
        None => Ok(config),
    }
}

/// As many as asked for and as there can be: a Krylov space has at most n dimensions.
fn steps(arguments: &SpectrumArguments, parameters: u64) -> usize {
    arguments.steps.get().min(usize::try_from(parameters).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        spectrum: SpectrumArguments,
    }

    #[test]
    fn graphs_are_kept_where_that_is_asked_for_only() {
        let recomputes = |flags: &[&str]| {
            let given = ["program", "--model", "m", "--data", "d", "--out", "o"];
            let arguments = Program::parse_from(given.iter().chain(flags)).spectrum;
            evaluation(&arguments).unwrap().passes.recompute
        };
        assert!(recomputes(&[]) && !recomputes(&["--keep-graphs"]));
    }
}
