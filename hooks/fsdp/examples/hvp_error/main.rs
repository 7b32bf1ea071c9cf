//! How far a Hessian-vector product by central differences is off, for every step h: what a step that is chosen
//! automatically is judged by.
//!
//! ```text
//! cargo run -p hessian-probe-fsdp --example hvp_error -- --param-dtype bf16
//! ```
//!
//! Trains a byte-level model of about a million parameters in f32 (the one of the example `demo`), then takes
//! products with three unit vectors (a random one, the gradient's direction, one near the eigenvector of the
//! largest |λ|) in the precision asked for, and exact ones by double backward in f32, at the parameters that the
//! forward pass under test uses: rounded, where it rounds them.

mod sweep;
mod vectors;

use clap::{Parser, ValueEnum};
use hessian_probe::Host;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{
    Attention, AttentionBias, Corpus, CorpusConfig, Dtype, LearningRate, LlamaConfig, MixedPrecision,
    RopeScaling, Trainer, TrainerConfig,
};
use std::error::Error;
use std::path::PathBuf;
use sweep::sweep;
use tch::Kind;
use vectors::Vectors;

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    Bf16,
    F32,
}

impl From<Type> for Dtype {
    fn from(name: Type) -> Self {
        match name {
            Type::Bf16 => Self::Bf16,
            Type::F32 => Self::F32,
        }
    }
}

#[derive(Parser)]
#[command(about = "Errors of Hessian-vector products by differences, against double backward")]
struct Arguments {
    /// Of the parameters
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Type,
    /// Of what is gathered [default: that of the parameters]
    #[arg(long, value_enum)]
    param_dtype: Option<Type>,
    /// Of activations [default: that of what is gathered]
    #[arg(long, value_enum)]
    compute_dtype: Option<Type>,
    /// Optimizer steps before the measurement
    #[arg(long, default_value_t = 100)]
    steps: u64,
    /// Sequences of 128 bytes in the probe batch
    #[arg(long, default_value_t = 8)]
    sequences: usize,
    /// Steps of the power iteration
    #[arg(long, default_value_t = 30)]
    iterations: usize,
    /// A directory with .rs files to train on [default: the sources of this build's dependencies]
    #[arg(long)]
    text: Option<PathBuf>,
    /// Threads of libtorch
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let corpus = Corpus::read(&CorpusConfig::new(arguments.text.clone().map_or_else(dependencies, Ok)?))?;
    // In f32, so that every precision is measured at the same place.
    let mut trained = Trainer::new(training(&arguments), ProcessGroup::single(), corpus.clone())?;
    let mut loss = None;
    trained.run(arguments.steps, &mut [], |report| loss = Some(report.loss))?;
    let dtype = arguments.dtype.into();
    let mixed_precision = MixedPrecision {
        param_dtype: arguments.param_dtype.map(Into::into),
        compute_dtype: arguments.compute_dtype.map(Into::into),
        reduce_dtype: None,
    };
    let mut tested = moved(&trained, dtype, mixed_precision, corpus.clone())?;
    tested.probe_on_validation(arguments.sequences)?;
    println!(
        "{} parameters in {dtype:?}, gathered in {:?}, computed in {:?}; {} steps, loss {:.4}",
        tested.parameter_count(),
        tested.engine().policy().gather,
        tested.engine().policy().compute,
        trained.steps_done(),
        loss.unwrap_or(f64::NAN)
    );

    // In f32 what the forward pass under test computes, of the parameters that it uses.
    let rounded = MixedPrecision {
        param_dtype: tested.compute_kind().map(|_| Dtype::Bf16),
        compute_dtype: Some(Dtype::F32),
        reduce_dtype: Some(Dtype::F32),
    };
    let mut exact = moved(&tested, Dtype::F32, rounded, corpus)?;
    exact.probe_on_validation(arguments.sequences)?;
    let gradient = Vectors::new(exact.gradient()?.tensors, Kind::Double)?;
    let narrow = Vectors::new(tested.gradient()?.tensors, Kind::Double)?;
    let difference = narrow.plus(-1.0, &gradient)?.norm()?;
    println!(
        "‖θ‖ = {:.4}, ‖g‖ = {:.4}; the gradient under test is {:.3} % off",
        Vectors::of(&exact)?.norm()?,
        gradient.norm()?,
        100.0 * difference / gradient.norm()?
    );

    let mut top = gradient.unit()?;
    let mut curvature = 0.0;
    for _ in 0..arguments.iterations {
        let product = top.exact_product(&mut exact)?;
        curvature = top.dot(&product)?;
        top = product.unit()?;
    }
    println!("power iteration: λ = {curvature:.4}");
    let random = Vectors::random(&exact, 1)?.unit()?;
    for (name, v) in [("a random vector", random), ("the gradient", gradient.unit()?), ("near the top", top)]
    {
        let expected = v.exact_product(&mut exact)?;
        sweep(name, &mut tested, &v, &expected)?;
    }
    Ok(())
}

/// A trainer in another precision at the parameters of `trainer`.
fn moved(
    trainer: &Trainer,
    dtype: Dtype,
    mixed_precision: MixedPrecision,
    corpus: Corpus,
) -> Result<Trainer> {
    let config = TrainerConfig { dtype, mixed_precision, ..trainer.config().clone() };
    let mut other = Trainer::new(config, ProcessGroup::single(), corpus)?;
    for shard in trainer.named_shards()? {
        other.set_parameter(&shard.name, &trainer.full_parameter(&shard.name)?)?;
    }
    Ok(other)
}

fn training(arguments: &Arguments) -> TrainerConfig {
    let model = LlamaConfig {
        vocab_size: 256,
        hidden_size: 128,
        intermediate_size: 384,
        num_hidden_layers: 5,
        num_attention_heads: 4,
        num_key_value_heads: Some(2),
        rms_norm_eps: 1e-5,
        rope_theta: 1e4,
        tie_word_embeddings: true,
        max_position_embeddings: 128,
        initializer_range: 0.02,
        dropout: 0.0,
        // Double backward needs it.
        attention: Attention::Plain,
        head_dim: None,
        attention_bias: AttentionBias::None,
        mlp_bias: false,
        qk_norm: false,
        rope_scaling: RopeScaling::Default,
    };
    let mut config = TrainerConfig::new(model, 8, 128);
    config.optimizer.lr = 3e-3;
    config.optimizer.clip_norm = Some(1.0);
    config.threads = Some(arguments.threads);
    config.schedule = LearningRate::Constant { warmup_steps: arguments.steps.div_ceil(16) };
    config
}

/// Where Cargo keeps the sources of dependencies: text that every machine that built this has.
fn dependencies() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let sources = home.map(|home| home.join("registry/src")).filter(|sources| sources.is_dir());
    sources
        .ok_or_else(|| "no sources under Cargo's registry; name a directory with .rs files by --text".into())
}
