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
//! et al., *PyTorch FSDP*, 2023). With [`PassConfig::prefetch`] the next block is on its way while one computes; without
//! [`PassConfig::recompute`] graphs are kept instead. Floating-point operations are those of a whole-graph backward
//! pass, in the same order: on one rank the gradients are equal bit for bit.

mod ahead;
mod batch;
mod config;
mod forward;
mod gradient;
mod hvp;
mod masks;
mod passes;

pub use batch::Batch;
pub use config::PassConfig;
pub use passes::passes;

use crate::error::Result;
use crate::model::Llama;
use crate::precision::PrecisionPolicy;
use crate::sharding::{Gathering, ShardedParameters};
use hessian_probe::Precision;
use hessian_probe_c10d::ProcessGroup;
use tch::Tensor;

/// A model and its sharded parameters.
///
/// Holds no group: every method that communicates takes it, and every rank must call it in turn.
///
/// ```
/// use hessian_probe_c10d::ProcessGroup;
/// use hessian_probe_fsdp::sharding::ShardedParameters;
/// use hessian_probe_fsdp::{Batch, Engine, Llama, LlamaConfig, Sequence};
/// use tch::{Device, Kind};
///
/// let group = ProcessGroup::single();
/// let model = Llama::new(LlamaConfig::new(16, 8, 16, 1, 2), Kind::Float, Device::Cpu)?;
/// let parameters = ShardedParameters::zeros(&model, group.rank(), group.world_size())?;
/// let engine = Engine::new(model, parameters);
///
/// // With weights of 0 all tokens are equally likely.
/// let sequence = Sequence { inputs: vec![1, 2, 3], labels: vec![2, 3, 4] };
/// let batch = Batch::from_sequences(&[sequence], group.rank(), Device::Cpu)?;
/// let sum = engine.loss_sum(&group, &batch, false)?;
/// assert!((sum - 3.0 * 16_f64.ln()).abs() < 1e-5);
/// # Ok::<(), hessian_probe_fsdp::Error>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    model: Llama,
    parameters: ShardedParameters,
    /// In the loop's own precision.
    policy: PrecisionPolicy,
    precision: Precision,
    passes: PassConfig,
}

impl Engine {
    /// The engine that runs `model` with `parameters`, all in their kind.
    #[must_use]
    pub fn new(model: Llama, parameters: ShardedParameters) -> Self {
        let policy = PrecisionPolicy::uniform(model.kind());
        Self::with_policy(model, parameters, policy)
    }

    /// The engine that gathers, computes and reduces as `policy` says.
    #[must_use]
    pub fn with_policy(model: Llama, parameters: ShardedParameters, policy: PrecisionPolicy) -> Self {
        Self { model, parameters, policy, precision: Precision::Loop, passes: PassConfig::default() }
    }

    /// The same, with passes as `passes` says.
    #[must_use]
    pub fn with_passes(self, passes: PassConfig) -> Self {
        Self { passes, ..self }
    }

    /// How passes are computed.
    #[must_use]
    pub fn passes(&self) -> PassConfig {
        self.passes
    }

    /// What passes are computed in at present.
    #[must_use]
    pub fn policy(&self) -> PrecisionPolicy {
        match self.precision {
            Precision::Loop => self.policy,
            Precision::Full => self.policy.full(),
        }
    }

    /// The present precision.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Computes in `precision` from now on. With [`Precision::Full`] parameters narrower than f32 have copies in f32,
    /// which passes use and [`live_shards`](ShardedParameters::live_shards) alias, until [`Precision::Loop`] drops
    /// them.
    ///
    /// # Errors
    /// [`Torch`](crate::Error::Torch) when memory is short; the precision is then as before.
    pub fn set_precision(&mut self, precision: Precision) -> Result<()> {
        if precision != self.precision {
            match precision {
                Precision::Full => self.parameters.widen(self.policy.full().parameters)?,
                Precision::Loop => self.parameters.drop_widened(),
            }
            self.precision = precision;
        }
        Ok(())
    }

    /// What passes at `precision` use copies of: this rank's slices, where they are narrower. Aliases, aligned with
    /// [`live_shards`](ShardedParameters::live_shards).
    pub(crate) fn sources(&self, precision: Precision) -> Vec<Tensor> {
        let wide = self.policy.full().parameters;
        let shards = self.parameters.flat_shards();
        let copied = shards.iter().any(|shard| shard.f_kind().is_ok_and(|own| own != wide));
        if precision == Precision::Loop || !copied {
            return Vec::new();
        }
        let shards = self.parameters.shards().unwrap_or_else(|error| {
            log::error!("{error}");
            Vec::new()
        });
        shards.into_iter().map(|shard| shard.tensor).collect()
    }

    /// Begins to gather a block and the one that it borrows from, for a pass at the present precision.
    fn start_gather<'a>(&'a self, group: &'a ProcessGroup, block: usize) -> Result<Gathering<'a>> {
        let blocks = std::iter::once(block).chain(self.parameters.borrows(block));
        self.parameters.start_gather(group, blocks, &self.policy())
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
