//! What can be said on the command line.

use crate::calibrate::CalibrateArguments;
use crate::choice::{choices, parse};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use hessian_probe::config::{Difference, Reorthogonalize, StepSize};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// The Hessian spectrum of a language model's loss.
#[derive(Debug, Parser)]
#[command(name = "hessian-probe", version, about)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Probe a saved model: extreme eigenvalues, trace, norm and spectral density of the Hessian of its loss
    Spectrum(SpectrumArguments),
    /// Find out in which regime of step and precision the Hessian of a saved model can be measured: errors of products
    /// over steps against a reference, the automatic choices, and what becomes of Lanczos runs
    Calibrate(CalibrateArguments),
    /// Show a report, or the last snapshot of a log
    Show(ShowArguments),
}

#[derive(Debug, Args)]
pub struct SpectrumArguments {
    /// The model: a directory in Hugging Face's form (config.json, model.safetensors or its index)
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,

    /// The data: one JSON object a line, with `input_ids` and optionally `labels` (same length, -100 is not counted;
    /// the model shifts). The loss is the mean over all counted targets of the file
    #[arg(long, value_name = "FILE.jsonl")]
    pub data: PathBuf,

    /// Where to write the report, as JSON
    #[arg(long, value_name = "REPORT.json")]
    pub out: PathBuf,

    /// Lanczos steps for each probe vector; at most as many as there are parameters
    #[arg(long, value_name = "M", default_value = "20")]
    pub steps: NonZeroUsize,

    /// Probe vectors; one alone gives no standard errors
    #[arg(long, value_name = "P", default_value = "2")]
    pub probes: NonZeroUsize,

    /// The seed of the probe vectors; the same vectors on any number of ranks
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// The type in which parameters are held and the loss is evaluated
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub dtype: Precision,

    #[arg(
        long,
        default_value = "auto",
        value_parser = parse::<Difference>,
        help = format!(
            "The difference formula of a Hessian-vector product ({}); `auto` takes one gradient a product where that is \
             accurate enough, and two elsewhere; `exact` differentiates twice, on one rank",
            choices::<Difference>().join(", ")
        )
    )]
    pub difference: Difference,

    /// The step h of the differences, along a unit vector: `auto` (for every vector, from what its own differences tell),
    /// `absolute=1e-3`, or `relative=1e-6` (a multiple of the norm of the parameters)
    #[arg(long, value_name = "H", default_value = "auto", value_parser = parse::<StepSize>)]
    pub step_size: StepSize,

    /// Against which Lanczos vectors each new one is orthogonalised: `full` (all; they stay in memory), a number N (the
    /// last N, at least 2), or `none`
    #[arg(long, value_name = "full|none|N", default_value = "full", value_parser = reorthogonalize)]
    pub reorthogonalize: Reorthogonalize,

    /// The blocks of the block-diagonal part that the Hessian is compared with
    #[arg(long, value_enum, default_value_t = Blocks::None)]
    pub blocks: Blocks,

    /// A directory for TensorBoard event files and snapshots.jsonl [default: none are written]
    #[arg(long, value_name = "DIR")]
    pub logdir: Option<PathBuf>,

    /// Threads of libtorch on each rank [default: OMP_NUM_THREADS, or else all cores divided by the local ranks]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Start N ranks on this machine and shard the model over them; under torchrun it starts them, and this is not
    /// needed [default: 1]
    #[arg(long, value_name = "N")]
    pub ranks: Option<NonZeroUsize>,

    /// Log what is done to stderr; twice for more. RUST_LOG (as of env_logger) goes before
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    /// A report of `hessian-probe spectrum`, or a snapshots.jsonl
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// The type in which a model is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits
    F32,
    /// 64 bits
    F64,
    /// bfloat16
    Bf16,
}

/// The blocks that parameters are divided into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Blocks {
    /// No comparison
    None,
    /// The layers of the model
    Layer,
    /// Each parameter tensor
    Tensor,
}

/// A number is a window.
fn reorthogonalize(text: &str) -> Result<Reorthogonalize, String> {
    if text.parse::<f64>().is_ok() { parse(&format!("window={text}")) } else { parse(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn spectrum(flags: &[&str]) -> Result<SpectrumArguments, clap::Error> {
        let needed = ["hessian-probe", "spectrum", "--model", "m", "--data", "d", "--out", "o"];
        let arguments = Arguments::try_parse_from(needed.iter().chain(flags))?;
        match arguments.command {
            Command::Spectrum(arguments) => Ok(arguments),
            Command::Calibrate(_) | Command::Show(_) => unreachable!("it says spectrum"),
        }
    }

    #[test]
    fn the_command_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_the_library_offers_is_read_by_its_own_names() {
        let arguments = spectrum(&[]).unwrap();
        assert_eq!((arguments.difference, arguments.step_size), (Difference::Auto, StepSize::Auto));
        assert_eq!(arguments.reorthogonalize, Reorthogonalize::Full);
        let flags = ["--difference", "central", "--step-size", "absolute=1e-3", "--reorthogonalize", "none"];
        let arguments = spectrum(&flags).unwrap();
        assert_eq!(arguments.difference, Difference::Central);
        assert_eq!(
            (arguments.step_size, arguments.reorthogonalize),
            (StepSize::Absolute(1e-3), Reorthogonalize::None)
        );
        let flags = ["--step-size", "relative=1e-6", "--reorthogonalize", "8"];
        let arguments = spectrum(&flags).unwrap();
        assert_eq!(arguments.step_size, StepSize::Relative(1e-6));
        assert_eq!(arguments.reorthogonalize, Reorthogonalize::Window(8));
    }

    #[test]
    fn what_is_no_choice_is_refused_with_the_choices() {
        for (flag, value, shown) in [
            ("--difference", "sideways", "`forward`"),
            ("--step-size", "absolute", "absolute"),
            ("--step-size", "absolute=much", "much"),
            ("--step-size", "auto=1", "auto"),
            ("--reorthogonalize", "-3", "-3"),
            ("--reorthogonalize", "2.5", "2.5"),
            ("--reorthogonalize", "window", "window"),
            ("--steps", "0", "zero"),
            ("--ranks", "0", "zero"),
            ("--dtype", "f16", "bf16"),
            ("--blocks", "row", "tensor"),
        ] {
            let error = spectrum(&[&format!("{flag}={value}")]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(shown), "{error}");
        }
    }
}
