//! Fine-tunes SmolLM2-135M on Rust sources, sharded over two ranks, and watches its Hessian. `cargo xtask demo --model
//! smollm2` fetches the model and runs this; under torchrun it takes the ranks from there.

#[path = "../../demo/display.rs"]
mod display;
#[path = "../../demo/session.rs"]
mod session;
#[path = "../../demo/text.rs"]
mod text;

use clap::Parser;
use display::Display;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::checkpoint::gguf::GgufFile;
use hessian_probe_fsdp::{Attention, CorpusConfig, LearningRate, TokenCorpus, Trainer, TrainerConfig};
use hessian_probe_smollm2::tokenizer;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use text::sources_of_dependencies;

/// How long a rank waits for another.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How much text is tokenized: far more than a few steps read.
const TEXT_BYTES: usize = 1 << 20;

#[derive(Parser)]
#[command(about = "Fine-tune SmolLM2-135M over FSDP ranks and watch its Hessian")]
struct Arguments {
    /// The model as a GGUF file with its tokenizer
    #[arg(long)]
    gguf: PathBuf,
    /// Ranks to start (ignored under torchrun, which has started them)
    #[arg(long, default_value_t = 2)]
    ranks: usize,
    /// Optimizer steps
    #[arg(long, default_value_t = 16)]
    steps: u64,
    /// Tokens of a sequence
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Sequences in the probe's batch
    #[arg(long, default_value_t = 2)]
    probe_sequences: usize,
    /// A directory with .rs files to train on [default: the sources of this build's dependencies]
    #[arg(long)]
    text: Option<PathBuf>,
    /// The probe's configuration
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/probe.toml"))]
    probe: PathBuf,
    /// A directory for the logs, in place of the configuration's
    #[arg(long)]
    logdir: Option<PathBuf>,
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
    let corpus = corpus(arguments)?;
    let mut trainer = Trainer::from_model(&arguments.gguf, group, corpus, |mut model| {
        model.attention = Attention::Sdpa;
        let mut config = TrainerConfig::new(model, 2, arguments.tokens);
        config.optimizer.lr = 1e-4;
        config.optimizer.clip_norm = Some(1.0);
        config.schedule = LearningRate::Cosine {
            warmup_steps: arguments.steps.div_ceil(8).min(arguments.steps.saturating_sub(1)),
            total_steps: arguments.steps,
            min_ratio: 0.1,
        };
        config
    })?;
    trainer.probe_on_validation(arguments.probe_sequences)?;
    session::watch(&mut trainer, &mut probe, &display, arguments.steps)
}

/// Sources in the model's tokens.
fn corpus(arguments: &Arguments) -> Result<TokenCorpus, Box<dyn Error>> {
    let directory = arguments.text.clone().map_or_else(sources_of_dependencies, Ok)?;
    let config = CorpusConfig { max_bytes: TEXT_BYTES, ..CorpusConfig::new(directory) };
    let tokenizer = tokenizer::from_gguf(&GgufFile::open(&arguments.gguf)?)?;
    // The last character may be cut off.
    let text = String::from_utf8_lossy(&config.bytes()?).into_owned();
    let tokens = tokenizer::encode(&tokenizer, &text)?;
    Ok(TokenCorpus::new(tokens, tokenizer.get_vocab_size(true), config.validation)?)
}
