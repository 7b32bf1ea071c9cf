//! What can be said of a plan.

use crate::arguments::reorthogonalize;
use crate::calibrate::precision::Precision;
use crate::choice::{choices, parse};
use clap::Args;
use hessian_probe::budget::Bytes;
use hessian_probe::config::{BasisKind, Difference, Reorthogonalize};
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The model's config.json, or the directory that has it: layers, vocabulary, attention count
    #[arg(long, value_name = "config.json", required_unless_present = "parameters")]
    pub model: Option<PathBuf>,

    /// Or its number of parameters, as in 7e9; several, separated by commas, are compared in a table
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = count, conflicts_with = "model")]
    pub parameters: Vec<u64>,

    /// Ranks over which it is sharded; several, separated by commas, are compared in a table
    #[arg(long, value_name = "R", value_delimiter = ',', value_parser = count, default_value = "1")]
    pub ranks: Vec<u64>,

    /// Tokens of the probe batch, over all ranks
    #[arg(long, value_name = "N", value_parser = count)]
    pub tokens: u64,

    /// Tokens of a sequence: what attention counts with, where the model is known
    #[arg(long, value_name = "N", value_parser = count, default_value = "2048")]
    pub sequence: u64,

    /// Micro-batches in which a rank works through its part of the probe batch: each gathers the model anew
    #[arg(long, value_name = "N", value_parser = count, default_value = "1")]
    pub micro_batches: u64,

    /// The types of parameters and passes
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,

    /// Whether the loop keeps all activations, and no block runs a second time for its backward pass
    #[arg(long)]
    pub keep_activations: bool,

    /// Seconds of one gradient of the probe batch, as it was measured
    #[arg(long, value_name = "S", conflicts_with_all = ["flops", "bandwidth"], required_unless_present_all = ["flops", "bandwidth"])]
    pub gradient_seconds: Option<f64>,

    /// Or the floating-point operations a second that a rank sustains
    #[arg(long, value_name = "F", requires = "bandwidth")]
    pub flops: Option<f64>,

    /// And the bytes a second at which a rank receives gathered parameters and sends gradients
    #[arg(long, value_name = "B", requires = "flops")]
    pub bandwidth: Option<f64>,

    /// Whether a rank has an accelerator: passes work on larger pieces, and a basis may be in the CPU's memory
    #[arg(long)]
    pub accelerator: bool,

    /// Bytes a second that a rank's memory moves in plain copies
    #[arg(long, value_name = "B", default_value = "1e10")]
    pub memory_bandwidth: f64,

    /// The constants of the machine as `cargo xtask bench --scaling` fitted them: its scaling-law.json
    #[arg(long, value_name = "FILE.json", conflicts_with = "memory_bandwidth")]
    pub machine: Option<PathBuf>,

    /// Threads of libtorch on a rank without an accelerator
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,

    /// Memory that a rank can spare for the probe, beside training: bytes, or as in 10GB
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<Bytes>,

    /// Lanczos steps for each probe vector
    #[arg(long, value_name = "M", default_value = "20")]
    pub steps: NonZeroUsize,

    /// Probe vectors
    #[arg(long, value_name = "P", default_value = "1")]
    pub probes: NonZeroUsize,

    #[arg(
        long,
        default_value = "auto",
        value_parser = parse::<Difference>,
        help = format!("The difference formula ({})", choices::<Difference>().join(", "))
    )]
    pub difference: Difference,

    /// As of `spectrum`; other ways are compared with it
    #[arg(long, value_name = "full|partial|none|N", default_value = "full", value_parser = reorthogonalize)]
    pub reorthogonalize: Reorthogonalize,

    #[arg(
        long,
        value_name = "TYPE",
        value_parser = parse::<BasisKind>,
        help = format!("The type of stored Lanczos vectors ({}) [default: that of vectors]", choices::<BasisKind>().join(", "))
    )]
    pub basis: Option<BasisKind>,

    /// Every so many probes the noise of the gradient is measured anew
    #[arg(long, value_name = "N", value_parser = count, default_value = "10")]
    pub recalibrate_every: u64,

    /// Distances of points at which it is looked for, 1 to 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4), default_value = "1")]
    pub distances: u64,

    /// The share of products that are computed again with a better step
    #[arg(long, value_name = "SHARE", default_value = "0.05")]
    pub redone: f64,

    /// Seconds of one step of training
    #[arg(long, value_name = "S", conflicts_with = "train_tokens")]
    pub step_seconds: Option<f64>,

    /// Or tokens of one step of training, of which each takes as long as one of the probe batch
    #[arg(long, value_name = "N", value_parser = count)]
    pub train_tokens: Option<u64>,

    /// The share of training time that probes may take, in per cent: says how often that is
    #[arg(long, value_name = "PERCENT")]
    pub max_overhead: Option<f64>,

    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
}

/// A whole number, also as 7e9.
fn count(text: &str) -> Result<u64, String> {
    if let Ok(whole) = text.parse::<u64>() {
        return if whole > 0 { Ok(whole) } else { Err("must be at least 1".into()) };
    }
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    // 2^64.
    if value >= 1.0 && value.fract() == 0.0 && value < 18_446_744_073_709_551_616.0 {
        Ok(value as u64)
    } else {
        Err(format!("{text} is not a whole number from 1 to 2^64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_whole_and_positive() {
        assert_eq!((count("12"), count("7e9"), count("1.5e3")), (Ok(12), Ok(7_000_000_000), Ok(1500)));
        for wrong in ["0", "-1", "1.5", "nan", "inf", "1e20", "many", ""] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
