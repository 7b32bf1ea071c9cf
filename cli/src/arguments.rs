//! What can be said on the command line.

use crate::calibrate::CalibrateArguments;
use crate::choice::{choices, parse};
use crate::place::Place;
use crate::plan::PlanArguments;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use hessian_probe::blocks::{BlocksConfig, By, Method, NamedPatterns};
use hessian_probe::config::{BasisKind, Difference, Reorthogonalize, StepSize};
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
    /// Say what a probe takes in time and memory, before anything is loaded or run
    Plan(PlanArguments),
    /// Show a report, or a snapshot of a log, by default the last
    Show(ShowArguments),
    /// Make a page of a log or a report: the density over steps, extreme eigenvalues, trace, blocks, cost and configuration,
    /// in one HTML file that needs no network, and each figure as SVG and PNG
    Render(RenderArguments),
    /// Compare two snapshots: of two runs, two reports, or two steps of a run. Differences come with their significance
    Compare(CompareArguments),
}

#[derive(Debug, Args)]
pub struct SpectrumArguments {
    /// The model: a directory in Hugging Face's form (config.json, model.safetensors or its index), or a GGUF file
    #[arg(long, value_name = "DIR|FILE.gguf")]
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

    /// Against which Lanczos vectors each new one is orthogonalised: `full` (all; they stay in memory), `partial` (all,
    /// but only at steps where the products' noise makes it worth a pass over them), a number N (the last N, at least
    /// 2), or `none` (the least memory; copies of Ritz values are found and merged)
    #[arg(long, value_name = "full|partial|none|N", default_value = "full", value_parser = reorthogonalize)]
    pub reorthogonalize: Reorthogonalize,

    #[arg(
        long,
        value_name = "TYPE",
        value_parser = parse::<BasisKind>,
        help = format!(
            "The type in which older Lanczos vectors are kept ({}): `bf16` takes half the memory of `f32`, and leaves them \
             orthogonal to some thousandths, which the report tells [default: that of the vectors]",
            choices::<BasisKind>().join(", ")
        )
    )]
    pub basis: Option<BasisKind>,

    /// Find up to K outliers by a run of their own, and take them out of all others, which then resolve smaller
    /// eigenvalues; 0: none
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub deflate: usize,

    /// A directory for TensorBoard event files and snapshots.jsonl [default: none are written]
    #[arg(long, value_name = "DIR")]
    pub logdir: Option<PathBuf>,

    /// Keep the graph of a pass in place of running each layer again for its gradients: three quarters of the operations,
    /// for the memory of all parameters and activations on every rank
    #[arg(long)]
    pub keep_graphs: bool,

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

    #[command(flatten)]
    pub blocks: BlockArguments,
}

/// The block-diagonal part of the Hessian, which it is compared with.
#[derive(Debug, Args)]
#[command(next_help_heading = "Comparison with diagonal blocks")]
pub struct BlockArguments {
    #[arg(
        long = "blocks",
        value_name = "BY",
        default_value = "none",
        value_parser = parse::<By>,
        help = format!(
            "What a block is ({}): the parameters of a layer, one tensor, or a kind of tensors (attention, MLP, embedding, \
             norms)",
            choices::<By>().join(", ")
        )
    )]
    pub by: By,

    /// A block by its parameters' names, in place of --blocks; may be given several times. `*` stands for any
    /// characters; the first pattern that matches decides, and what none matches is the block `other`
    #[arg(long = "block-pattern", value_name = "NAME=GLOB[,GLOB]", value_parser = pattern)]
    pub patterns: Vec<NamedPatterns>,

    #[arg(
        long = "block-method",
        value_name = "METHOD",
        value_parser = parse::<Method>,
        help = format!(
            "How the block-diagonal part is applied ({}): a product for each block, or one for each draw of signs; `auto`: \
             the cheaper [default: auto]",
            choices::<Method>().join(", ")
        )
    )]
    pub method: Option<Method>,

    #[arg(
        long = "block-vectors",
        value_name = "N",
        help = format!("Random vectors to compare along; one gives no standard errors [default: {}]", BlocksConfig::default().vectors)
    )]
    pub vectors: Option<NonZeroUsize>,

    #[arg(
        long = "block-draws",
        value_name = "N",
        help = format!("Draws of signs for each vector by the stochastic method, at least 2 [default: {}]", BlocksConfig::default().draws)
    )]
    pub draws: Option<usize>,

    #[arg(
        long = "block-steps",
        value_name = "M",
        help = format!(
            "Lanczos steps for the spectrum of each block; 0: no spectra [default: {}]",
            BlocksConfig::default().spectrum_steps
        )
    )]
    pub spectrum_steps: Option<usize>,

    /// The most Hessian-vector products to spend on blocks, those that are computed again included. Where the plan
    /// needs more, less is measured, and the report says what was left out [default: no limit]
    #[arg(long, value_name = "N")]
    pub max_hvps: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    /// A report of `hessian-probe spectrum`, a snapshots.jsonl, or the directory of a log
    #[arg(value_name = "RUN")]
    pub path: PathBuf,

    /// Which snapshot of a log [default: the last]
    #[arg(long, value_name = "STEP")]
    pub step: Option<u64>,
}

#[derive(Debug, Args)]
pub struct RenderArguments {
    /// The directory of a log, a snapshots.jsonl, or a report of `hessian-probe spectrum`
    #[arg(value_name = "RUN")]
    pub path: PathBuf,

    /// The directory for report.html, and for the figures in `figures` [default: `report` beside the log or the report]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// The step that the page shows first [default: the last]
    #[arg(long, value_name = "STEP")]
    pub step: Option<u64>,

    /// The page alone, without files for its figures
    #[arg(long)]
    pub no_figures: bool,
}

#[derive(Debug, Args)]
pub struct CompareArguments {
    /// A log or a report as of `show`; RUN@STEP is the snapshot of that step [default: the last]
    #[arg(value_name = "A", value_parser = Place::parse)]
    pub a: Place,

    /// What it is compared with
    #[arg(value_name = "B", value_parser = Place::parse)]
    pub b: Place,

    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
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

/// A number is a window.
pub fn reorthogonalize(text: &str) -> Result<Reorthogonalize, String> {
    if text.parse::<f64>().is_ok() { parse(&format!("window={text}")) } else { parse(text) }
}

/// `NAME=GLOB[,GLOB]`.
fn pattern(text: &str) -> Result<NamedPatterns, String> {
    match text.split_once('=') {
        Some((name, globs)) if !name.is_empty() && globs.split(',').all(|glob| !glob.is_empty()) => {
            Ok(NamedPatterns { name: name.into(), patterns: globs.split(',').map(str::to_owned).collect() })
        }
        _ => Err("is not of the form NAME=GLOB[,GLOB], as in attention=*.self_attn.*".into()),
    }
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
            _ => unreachable!("it says spectrum"),
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
        assert_eq!(
            spectrum(&["--reorthogonalize", "partial"]).unwrap().reorthogonalize,
            Reorthogonalize::Partial
        );
        assert_eq!(spectrum(&["--blocks", "kind"]).unwrap().blocks.by, By::Kind);
        assert_eq!(arguments.basis, None);
        let flags = ["--step-size", "relative=1e-6", "--reorthogonalize", "8", "--basis", "bf16"];
        let arguments = spectrum(&flags).unwrap();
        assert_eq!(arguments.basis, Some(BasisKind::Bf16));
        assert_eq!(arguments.step_size, StepSize::Relative(1e-6));
        assert_eq!(arguments.reorthogonalize, Reorthogonalize::Window(8));
    }

    #[test]
    fn a_pattern_has_a_name_and_one_glob_or_several() {
        let flags = ["--block-pattern", "heads=*.q_proj.*,*.k_proj.*", "--block-pattern", "rest=*"];
        let patterns = spectrum(&flags).unwrap().blocks.patterns;
        let named = |name: &str, globs: &[&str]| NamedPatterns {
            name: name.into(),
            patterns: globs.iter().map(|&glob| glob.to_owned()).collect(),
        };
        assert_eq!(patterns, [named("heads", &["*.q_proj.*", "*.k_proj.*"]), named("rest", &["*"])]);
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
            ("--basis", "f16", "`bf16`"),
            ("--blocks", "row", "`kind`"),
            ("--block-method", "guess", "`stochastic`"),
            ("--block-vectors", "0", "zero"),
            ("--block-pattern", "*.mlp.*", "NAME=GLOB"),
            ("--block-pattern", "mlp=", "NAME=GLOB"),
            ("--max-hvps", "-1", "-1"),
        ] {
            let error = spectrum(&[&format!("{flag}={value}")]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(shown), "{error}");
        }
    }
}
