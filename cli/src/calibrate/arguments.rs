//! What can be said of a calibration.

use super::precision::Precision;
use crate::choice::parse;
use clap::{ArgAction, Args, ValueEnum};
use hessian_probe::config::Difference;
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct CalibrateArguments {
    /// The model: a directory in Hugging Face's form (config.json, model.safetensors or its index), or a GGUF file
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,

    /// The data, as of `spectrum`
    #[arg(long, value_name = "FILE.jsonl")]
    pub data: PathBuf,

    /// Where to write everything that was measured, as JSON, after each piece of work: an interrupted calibration leaves
    /// what it has found, with `complete` false [default: nowhere]
    #[arg(long, value_name = "CALIBRATION.json")]
    pub out: Option<PathBuf>,

    /// Where to draw the errors over the steps, as PNG [default: nowhere]
    #[arg(long, value_name = "CALIBRATION.png")]
    pub plot: Option<PathBuf>,

    /// The precisions to measure: of parameters and passes; `bf16-compute` has f32 parameters and passes in bf16
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "f32,bf16-compute,bf16,f64"
    )]
    pub precisions: Vec<Precision>,

    /// What they are measured against
    #[arg(long, value_enum, default_value_t = ReferenceChoice::Auto)]
    pub reference: ReferenceChoice,

    /// Lanczos steps of the runs that are compared with the reference's; at most as many as there are parameters
    #[arg(long, value_name = "M", default_value = "12")]
    pub steps: NonZeroUsize,

    /// Steps h of the sweep in each factor of ten
    #[arg(long, value_name = "N", default_value = "2")]
    pub points: NonZeroUsize,

    /// A difference formula whose Lanczos run, with automatic steps, is compared with the reference's beside that of
    /// `auto` (`forward`, `central` or `central4`); may be repeated
    #[arg(long, value_name = "FORMULA", value_parser = parse::<Difference>)]
    pub difference: Vec<Difference>,

    /// A fixed step h whose Lanczos run is compared with the reference's, too, by central differences; may be repeated
    #[arg(long, value_name = "H", value_parser = step)]
    pub fixed_step: Vec<f64>,

    /// The seed of the random vector, as of `spectrum`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// The type in which Lanczos vectors are stored [default: that of each precision, and at least f32]. `f32` halves
    /// the memory of the reference and of f64, whose vectors are then orthogonal to 1e-7 only
    #[arg(long, value_enum, value_name = "TYPE")]
    pub basis: Option<BasisType>,

    /// Threads of libtorch [default: OMP_NUM_THREADS, or else all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// One: that of `spectrum` is refused with the reason
    #[arg(long, value_name = "N", hide = true)]
    pub ranks: Option<NonZeroUsize>,

    /// Log what is done to stderr; twice for more. RUST_LOG (as of env_logger) goes before
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// What precisions are measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReferenceChoice {
    /// `exact` where the graph of one sequence is likely to fit into the memory that is free; else `central4` where f64
    /// does, or is to be judged; else `richardson`
    Auto,
    /// Double backward in f64
    Exact,
    /// Differences of fourth order in f64
    Central4,
    /// Extrapolated central differences in f32: the least memory. It cannot judge f64
    Richardson,
}

/// How Lanczos vectors are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BasisType {
    /// 32 bits
    F32,
    /// 64 bits
    F64,
}

fn step(text: &str) -> Result<f64, String> {
    let h: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if h.is_finite() && h > 0.0 { Ok(h) } else { Err(format!("{h} is not a positive number")) }
}
