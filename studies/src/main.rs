//! The measurements that the pages of the docs report. `cargo xtask study NAME` builds what they need and starts them.
//!
//! - [`programs`]: `hessian-probe` and the example `demo`, started as a user starts them
//! - [`models`]: what is probed, with its text
//! - [`texts`]: what a language model is probed on
//! - [`sources`]: what the demo's model is trained on
//! - [`blocks`]: how much of a Hessian is block-diagonal
//! - [`regimes`]: in which regime of step and precision it can be measured
//! - [`stability`]: whether a learning rate is stable, while a model trains
//! - [`peers`]: what others' libraries take for the same, and find
//! - [`scaling`]: what a probe costs, on models of many sizes over several ranks
//! - [`study`]: what these have in common
//! - [`claim`], [`page`], [`number`], [`figure`]: what a study hands to the docs
//! - [`output`]: where it goes

mod blocks;
mod claim;
mod figure;
#[allow(dead_code, reason = "a benchmark uses more of it")]
#[path = "../../benches/support/lent.rs"]
mod lent;
#[path = "../../benches/support/memory.rs"]
mod memory;
mod models;
mod number;
mod output;
mod page;
mod peers;
mod programs;
mod regimes;
mod scaling;
mod sources;
mod stability;
mod study;
#[path = "../../examples/demo/text.rs"]
mod text;
mod texts;
#[path = "../../benches/support/worker.rs"]
mod worker;

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(name = "study", about = "The measurements that the pages of the docs report")]
struct Arguments {
    #[command(subcommand)]
    study: Study,
}

#[derive(Subcommand)]
enum Study {
    /// How much of a Hessian is block-diagonal: SmolLM2-135M on several texts, the demo's model while it trains
    Blocks(Options),
    /// In which regime of step and precision a Hessian can be measured: the demo's model, and SmolLM2-135M
    Regimes(Options),
    /// Whether a learning rate is stable: gradient descent at 2/η, Adam at 38/η, alarms before a loss spikes
    Stability(Options),
    /// What Hessian-vector products take in libraries for PyTorch, on the same model, text and vectors
    Peers(Options),
    /// One measurement of that of this crate, in a process of its own
    #[command(hide = true)]
    PeersWorker {
        /// What to measure, as JSON
        task: String,
    },
    /// How the time and memory of a probe grow with the model, the ranks and the probe, and whether a plan foretells them
    Scaling(Options),
    /// One measurement of that, in a process of its own, or one for each rank
    #[command(hide = true)]
    ScalingWorker {
        /// What to measure, as JSON
        case: String,
    },
}

#[derive(Args)]
#[cfg_attr(test, derive(Default))]
struct Options {
    /// SmolLM2-135M as a GGUF file with its tokenizer, for the studies of it
    #[arg(long)]
    gguf: Option<PathBuf>,
    /// A Python that has the libraries of benches/peers/requirements.txt, for the study of them
    #[arg(long)]
    python: Option<PathBuf>,
    /// For the study of peers: another model than the demo's, a directory in Hugging Face's form
    #[arg(long, requires = "data", conflicts_with = "update_docs")]
    model: Option<PathBuf>,
    /// For the study of peers: the model's text, sequences of one length as `input_ids` in lines of JSON
    #[arg(long, requires = "model")]
    data: Option<PathBuf>,
    /// For the study of scaling: sizes of models, separated by commas [default: all, from 0.2M to 0.5B]
    #[arg(long, value_delimiter = ',', conflicts_with = "update_docs")]
    sizes: Vec<String>,
    /// For the study of scaling: numbers of ranks, separated by commas [default: 1,2,4]
    #[arg(long, value_delimiter = ',', conflicts_with = "update_docs")]
    world_sizes: Vec<usize>,
    /// For the study of scaling: rounds over which medians are taken
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// For the studies of peers and scaling: threads of each process. One is what a busy machine disturbs least
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Where reports, tables and figures go [default: target/studies/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Keep what an earlier run of the same commands has left
    #[arg(long)]
    reuse: bool,
    /// Measure nothing: show again what the docs' record says
    #[arg(long, conflicts_with = "reuse")]
    from_record: bool,
    /// Measure only this part again, the rest is as the docs' record says; may be repeated
    #[arg(long, value_name = "PART", conflicts_with = "from_record")]
    only: Vec<String>,
    /// Write the tables and figures into the docs, too
    #[arg(long)]
    update_docs: bool,
    /// Ranks that `hessian-probe spectrum` shards a model over; the demo has its own two
    #[arg(long, default_value_t = 1)]
    ranks: usize,
}

impl Options {
    /// Whether a part is measured.
    fn measures(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    /// Whether `--only` names parts of the study and nothing else.
    ///
    /// # Errors
    /// Where it does not, with the names that there are.
    fn check(&self, parts: &[&str]) -> Result<()> {
        match self.only.iter().find(|only| !parts.contains(&only.as_str())) {
            None => Ok(()),
            Some(_) if parts.is_empty() => Err("--only: this study has no parts".into()),
            Some(unknown) => Err(format!("--only {unknown}: the parts are {}", parts.join(", ")).into()),
        }
    }

    /// SmolLM2-135M.
    ///
    /// # Errors
    /// Where it was not given.
    fn gguf(&self) -> Result<&Path> {
        Ok(self.gguf.as_deref().ok_or("this study needs SmolLM2-135M: --gguf FILE")?)
    }

    /// For `hessian-probe spectrum`: all cores.
    fn ranks_and_threads(&self) -> [OsString; 4] {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / self.ranks.max(1)).max(1);
        ["--ranks".into(), self.ranks.to_string().into(), "--threads".into(), threads.to_string().into()]
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    exit_code(match &arguments.study {
        Study::Blocks(options) => study::run::<blocks::Blocks>(options),
        Study::Regimes(options) => study::run::<regimes::Regimes>(options),
        Study::Stability(options) => study::run::<stability::Stability>(options),
        Study::Peers(options) => study::run::<peers::Peers>(options),
        Study::PeersWorker { task } => peers::work(task).map(|()| Vec::new()),
        Study::Scaling(options) => study::run::<scaling::Scaling>(options),
        Study::ScalingWorker { case } => scaling::work(case).map(|()| Vec::new()),
    })
}

/// Success only if the study came about, and what it claims holds.
fn exit_code(outcome: Result<Vec<claim::Claim>>) -> ExitCode {
    match outcome {
        Ok(claims) => output::verdict(&claims),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
