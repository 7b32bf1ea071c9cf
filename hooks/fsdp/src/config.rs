//! What a training run is made of.

use crate::checkpoint::CheckpointConfig;
use crate::engine::PassConfig;
use crate::error::{Error, Result};
use crate::model::LlamaConfig;
use crate::optimizer::{AdamWConfig, LearningRate};
pub use crate::precision::{Dtype, MixedPrecision};
use serde::{Deserialize, Serialize};

/// A training run; a table of TOML or JSON. Unknown keys are errors.
///
/// ```
/// use hessian_probe_fsdp::{LearningRate, TrainerConfig};
///
/// let config: TrainerConfig = toml::from_str(
///     r#"
///     batch_size = 16
///     sequence_length = 128
///     dtype = "f32"
///
///     [model]
///     vocab_size = 256
///     hidden_size = 64
///     intermediate_size = 160
///     num_hidden_layers = 4
///     num_attention_heads = 4
///     num_key_value_heads = 2
///     attention = "sdpa"
///
///     [optimizer]
///     lr = 1e-3
///     betas = [0.9, 0.95]
///     clip_norm = 1.0
///
///     [schedule]
///     kind = "cosine"
///     warmup_steps = 20
///     total_steps = 400
///     "#,
/// )?;
/// config.validate(2)?;
/// assert_eq!(config.schedule, LearningRate::Cosine { warmup_steps: 20, total_steps: 400, min_ratio: 0.0 });
///
/// let error = toml::from_str::<TrainerConfig>("batchsize = 16").unwrap_err();
/// assert!(error.to_string().contains("batchsize"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerConfig {
    /// The model's sizes.
    pub model: LlamaConfig,
    /// Sequences of all ranks in one micro-batch; divisible by the number of ranks.
    pub batch_size: usize,
    /// Tokens per sequence.
    pub sequence_length: usize,
    /// Micro-batches per optimizer step.
    #[serde(default = "one")]
    pub gradient_accumulation: usize,
    /// AdamW's constants.
    #[serde(default)]
    pub optimizer: AdamWConfig,
    /// The learning rate over time.
    #[serde(default)]
    pub schedule: LearningRate,
    /// Of initial values, data and dropout.
    #[serde(default)]
    pub seed: u64,
    /// Of this rank's parameters and gradients, and by default of the optimizer's state. With
    /// [`mixed_precision`](Self::mixed_precision) these are the masters, with `"bf16"` there are none: what an
    /// update does to a parameter is rounded to bf16, as it is in PyTorch with a model of that type.
    #[serde(default)]
    pub dtype: Dtype,
    /// Narrower types for what is gathered, computed and reduced.
    #[serde(default, skip_serializing_if = "MixedPrecision::is_default")]
    pub mixed_precision: MixedPrecision,
    /// What a gradient trades for memory.
    #[serde(default, skip_serializing_if = "PassConfig::is_default")]
    pub passes: PassConfig,
    /// Threads of libtorch on each rank; its own choice where absent. Sums depend on it in their last
    /// bits, so runs that are compared need the same.
    #[serde(default)]
    pub threads: Option<usize>,
    /// Where and when [`Trainer::run`](crate::Trainer::run) saves checkpoints; never where absent.
    #[serde(default)]
    pub checkpoint: Option<CheckpointConfig>,
}

fn one() -> usize {
    1
}

impl TrainerConfig {
    /// A run with default optimizer, constant learning rate, seed 0, f32, no accumulation.
    #[must_use]
    pub fn new(model: LlamaConfig, batch_size: usize, sequence_length: usize) -> Self {
        Self {
            model,
            batch_size,
            sequence_length,
            gradient_accumulation: 1,
            optimizer: AdamWConfig::default(),
            schedule: LearningRate::default(),
            seed: 0,
            dtype: Dtype::default(),
            mixed_precision: MixedPrecision::default(),
            passes: PassConfig::default(),
            threads: None,
            checkpoint: None,
        }
    }

    /// Checks every value, for `world_size` ranks.
    ///
    /// # Errors
    /// [`Error::Config`] with the first key at fault.
    pub fn validate(&self, world_size: usize) -> Result<()> {
        self.model.validate()?;
        self.optimizer.validate()?;
        self.schedule.validate()?;
        self.mixed_precision.validate(self.dtype)?;
        self.checkpoint.as_ref().map_or(Ok(()), CheckpointConfig::validate)?;
        for (key, value) in [
            ("batch_size", self.batch_size),
            ("sequence_length", self.sequence_length),
            ("gradient_accumulation", self.gradient_accumulation),
            ("threads", self.threads.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(Error::config(key, "is 0, must be at least 1"));
            }
        }
        if !self.batch_size.is_multiple_of(world_size) {
            let reason =
                format!("{} sequences cannot be divided equally among {world_size} ranks", self.batch_size);
            return Err(Error::config("batch_size", reason));
        }
        if self.sequence_length > self.model.max_position_embeddings {
            let reason = format!(
                "is {}, more than model.max_position_embeddings = {}",
                self.sequence_length, self.model.max_position_embeddings
            );
            return Err(Error::config("sequence_length", reason));
        }
        Ok(())
    }
}
