//! Trains a byte-level language model of about a million parameters on Rust sources, sharded over two
//! ranks, and watches its Hessian. `cargo xtask demo` runs it; under torchrun it takes the ranks from there.

mod display;
mod session;
mod text;

use clap::Parser;
use display::Display;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{
    Attention, Corpus, CorpusConfig, LearningRate, LlamaConfig, Trainer, TrainerConfig,
};
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use text::sources_of_dependencies;

/// How long a rank waits for another.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(name = "demo", about = "Train a small language model over FSDP ranks and watch its Hessian")]
struct Arguments {
    /// Ranks to start (ignored under torchrun, which has started them)
    #[arg(long, default_value_t = 2)]
    ranks: usize,
    /// Optimizer steps
    #[arg(long, default_value_t = 300)]
    steps: u64,
    /// A directory with .rs files to train on [default: the sources of this build's dependencies]
    #[arg(long)]
    text: Option<PathBuf>,
    /// The probe's configuration
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/probe.toml"))]
    probe: PathBuf,
    /// A directory for the logs, in place of the configuration's
    #[arg(long)]
    logdir: Option<PathBuf>,
    /// A directory for the trained model in Hugging Face's form, for `hessian-probe spectrum --model`
    #[arg(long)]
    export: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    session::on_ranks(arguments.ranks, || train(&arguments))
}

/// One rank.
fn train(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let group = ProcessGroup::from_env(TIMEOUT)?;
    let display = Display::new(group.rank(), arguments.steps);
    let mut probe = session::probe(&arguments.probe, arguments.logdir.as_ref())?;
    let corpus =
        Corpus::read(&CorpusConfig::new(arguments.text.clone().map_or_else(sources_of_dependencies, Ok)?))?;
    let mut trainer = Trainer::new(training(arguments.steps), group, corpus)?;
    trainer.probe_on_validation(8)?;
    session::watch(&mut trainer, &mut probe, &display, arguments.steps)?;
    if let Some(directory) = &arguments.export {
        trainer.export_hugging_face(directory)?;
    }
    Ok(())
}

fn training(steps: u64) -> TrainerConfig {
    let model = LlamaConfig {
        num_key_value_heads: Some(2),
        tie_word_embeddings: true,
        max_position_embeddings: 128,
        attention: Attention::Sdpa,
        ..LlamaConfig::new(256, 128, 384, 5, 4)
    };
    let mut config = TrainerConfig::new(model, 8, 128);
    config.optimizer.lr = 3e-3;
    config.optimizer.clip_norm = Some(1.0);
    config.schedule =
        LearningRate::Cosine { warmup_steps: steps.div_ceil(16), total_steps: steps, min_ratio: 0.1 };
    config
}
