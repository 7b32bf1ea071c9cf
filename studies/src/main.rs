//! The measurements that the pages of the docs report. `cargo xtask study NAME` builds what they need and starts them.
//!
//! - [`programs`]: `hessian-probe` and the example `demo`, started as a user starts them
//! - [`texts`]: what a language model is probed on
//! - [`sources`]: what the demo's model is trained on
//! - [`blocks`]: how much of a Hessian is block-diagonal
//! - [`claim`], [`page`], [`number`], [`figure`]: what a study hands to the docs
//! - [`output`]: where it goes

mod blocks;
mod claim;
mod figure;
mod number;
mod output;
mod page;
mod programs;
mod sources;
mod texts;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
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
}

#[derive(Args)]
struct Options {
    /// SmolLM2-135M as a GGUF file with its tokenizer
    #[arg(long)]
    gguf: PathBuf,
    /// Where reports, tables and figures go [default: target/studies/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Keep what an earlier run of the same commands has left
    #[arg(long)]
    reuse: bool,
    /// Write the tables and figures into the docs, too
    #[arg(long)]
    update_docs: bool,
    /// Ranks that a model is sharded over
    #[arg(long, default_value_t = 2)]
    ranks: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.study {
        Study::Blocks(options) => blocks::run(options),
    };
    match outcome {
        Ok(claims) => output::verdict(&claims),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
