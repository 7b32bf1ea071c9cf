//! The Llama architecture as a chain of blocks, each a function of (its parameters, its input).
//!
//! ```text
//! tokens [B, T] ── embed ──> x₀ [B, T, d] ── layers.0 ──> x₁ ── … ── layers.L-1 ──> x_L ── head ──> logits [B, T, V]
//! ```
//!
//! A block holds no tensors. Whoever runs it passes the parameters in the order of
//! [`BlockSpec::parameters`]: views of a gathered buffer in the sharded [engine](crate::engine), plain
//! leaves in an unsharded loop. With tied embeddings the head borrows the parameters of `embed`.

mod attention;
mod blocks;
mod config;
mod embedding;
mod head;
mod init;
mod layer;
mod layer_parameters;
mod rope;
mod rope_scaling;
mod scalar;

pub use blocks::{BlockSpec, ParameterSpec};
pub use config::{Attention, AttentionBias, LlamaConfig};
pub use head::{IGNORE_INDEX, cross_entropy_sum};
pub(crate) use init::hash;
pub use init::{Init, standard_normal};
pub use rope_scaling::RopeScaling;
pub(crate) use scalar::scalar;

use crate::error::Result;
use blocks::BlockKind;
use rope::Rope;
use tch::{Device, Kind, TchError, Tensor};

/// A Llama-architecture language model without its parameters.
///
/// ```
/// use hessian_probe_fsdp::{Llama, LlamaConfig};
/// use tch::{Device, Kind};
///
/// let model = Llama::new(LlamaConfig::new(256, 64, 160, 2, 4), Kind::Float, Device::Cpu)?;
/// let names: Vec<&str> = model.blocks().iter().map(|block| block.name.as_str()).collect();
/// assert_eq!(names.len(), 4); // the embedding, two layers, the head
/// assert_eq!(model.parameter_count(), 2 * 256 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 160 + 2 * 64) + 64);
/// # Ok::<(), hessian_probe_fsdp::Error>(())
/// ```
#[derive(Debug)]
pub struct Llama {
    config: LlamaConfig,
    blocks: Vec<BlockSpec>,
    rope: Rope,
    kind: Kind,
    device: Device,
}

impl Llama {
    /// The model of `config` for parameters of `kind` on `device`. Blocks compute in the kind of the parameters that
    /// they are given.
    ///
    /// # Errors
    /// [`Config`](crate::Error::Config) when the sizes do not fit together.
    pub fn new(config: LlamaConfig, kind: Kind, device: Device) -> Result<Self> {
        config.validate()?;
        let blocks = blocks::blocks(&config);
        let rope = Rope::new(&config, kind, device);
        Ok(Self { config, blocks, rope, kind, device })
    }

    /// The sizes of the model.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The blocks in the order in which a forward pass runs them: `embed`, the layers, `head`.
    #[must_use]
    pub fn blocks(&self) -> &[BlockSpec] {
        &self.blocks
    }

    /// The number of parameters, tied ones counted once.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.blocks.iter().map(|block| block.numel() as u64).sum()
    }

    /// The kind of the parameters as they are stored.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The device of the parameters and activations.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Runs block number `block` (an index into [`blocks`](Self::blocks)).
    ///
    /// `parameters` are the block's own in the order of its specification, followed by those of the
    /// block that it borrows from, if any. `input` is tokens `[B, T]` (i64) for the first block, hidden
    /// states `[B, T, hidden_size]` for the others; the result is hidden states, or logits
    /// `[B, T, vocab_size]` for the last block. Dropout draws from libtorch's default generator, and
    /// only where `dropout` is true and the configured rate is positive.
    ///
    /// # Errors
    /// libtorch's, for instance on a token outside of the vocabulary.
    pub fn run(
        &self,
        block: usize,
        parameters: &[Tensor],
        input: &Tensor,
        dropout: bool,
    ) -> Result<Tensor, TchError> {
        let Some(spec) = self.blocks.get(block) else {
            return Err(TchError::Shape(format!("the model has {} blocks, not {block}", self.blocks.len())));
        };
        let dropout = if dropout { self.config.dropout } else { 0.0 };
        match spec.kind {
            BlockKind::Embed => embedding::forward(parameters, input, dropout),
            BlockKind::Layer => layer::forward(&self.config, &self.rope, parameters, input, dropout),
            BlockKind::Head => head::forward(&self.config, parameters, input),
        }
    }
}

/// `x`, or `x` with each element dropped with probability `rate` and the others scaled by `1/(1-rate)`.
fn drop_out(x: Tensor, rate: f64) -> Result<Tensor, TchError> {
    if rate > 0.0 { x.f_dropout(rate, true) } else { Ok(x) }
}
