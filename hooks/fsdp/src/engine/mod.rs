//! Loss and gradient of a sharded model, one gathered block at a time.
//!
//! ```text
//! forward    for each block:          gather ── run without graph ── keep its input ── free
//! head       gather ── run with graph ── loss ── ∂loss/∂x_L, ∂loss/∂parameters ── free ── reduce-scatter
//! backward   for each block, last first:  gather ── run again on its input, with graph ── gradients ── free
//!                                         ── reduce-scatter of the parameters' gradient into the shards
//! ```
//!
//! This is activation checkpointing (Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016)
//! at the blocks that are gathered, so that each block's parameters are needed only while it runs (Zhao
//! et al., *PyTorch FSDP*, 2023). Floating-point operations are those of a whole-graph backward pass, in
//! the same order: on one rank the gradients are equal bit for bit.

mod batch;
mod forward;
mod gradient;
mod masks;

pub use batch::Batch;

use crate::model::Llama;
use crate::sharding::ShardedParameters;

/// A model and its sharded parameters.
///
/// Holds no group: every method that communicates takes it, and every rank must call it in turn.
#[derive(Debug)]
pub struct Engine {
    model: Llama,
    parameters: ShardedParameters,
}

impl Engine {
    /// The engine that runs `model` with `parameters`.
    #[must_use]
    pub fn new(model: Llama, parameters: ShardedParameters) -> Self {
        Self { model, parameters }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Llama {
        &self.model
    }

    /// The parameters of this rank.
    #[must_use]
    pub fn parameters(&self) -> &ShardedParameters {
        &self.parameters
    }

    /// Whether a pass with `dropout` draws random numbers.
    fn draws(&self, dropout: bool) -> bool {
        dropout && self.model.config().dropout > 0.0
    }

    /// The name of block number `block`, for messages.
    fn block_name(&self, block: usize) -> &str {
        self.model.blocks().get(block).map_or("?", |block| &block.name)
    }

    /// The index of the last block.
    fn head(&self) -> usize {
        self.model.blocks().len().saturating_sub(1)
    }
}
