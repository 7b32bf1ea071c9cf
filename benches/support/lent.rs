//! A sharded model that is only looked at: parameters and their gradient, without an optimizer.

use super::Result;
use hessian_probe::{Gradient, Host, HostError, ReduceOp, Shard};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::sharding::{GradientShards, ShardedParameters};
use hessian_probe_fsdp::{
    Batch, Corpus, CorpusConfig, Engine, Llama, LlamaConfig, PassConfig, SequenceSource,
};
use std::path::Path;
use std::rc::Rc;
use tch::{Device, Kind};

pub struct Lent {
    engine: Engine,
    gradients: GradientShards,
    batch: Batch,
    group: Rc<ProcessGroup>,
    targets: f64,
}

impl Lent {
    /// Random weights in f32; the batch, so many sequences of so many tokens over all ranks, is of this crate's own sources.
    pub fn new(
        model: LlamaConfig,
        [sequences, tokens]: [usize; 2],
        passes: PassConfig,
        group: Rc<ProcessGroup>,
    ) -> Result<Self> {
        let (rank, ranks) = (group.rank(), group.world_size());
        let model = Llama::new(model, Kind::Float, Device::Cpu)?;
        let parameters = ShardedParameters::initialized(&model, rank, ranks, 1)?;
        let gradients = GradientShards::new(parameters.layouts(), rank, Kind::Float, Device::Cpu)?;
        // Each rank has as many tokens: fewer sequences than ranks are repeated.
        let own = sequences.div_ceil(ranks).max(1);
        let text = Corpus::read(&CorpusConfig::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")))?;
        let sequences = (0..own).map(|index| text.validation((rank * own + index) as u64, tokens));
        let sequences = sequences.collect::<hessian_probe_fsdp::Result<Vec<_>>>()?;
        let batch = Batch::from_sequences(&sequences, rank, Device::Cpu)?;
        let targets = (own * ranks * tokens) as f64;
        let engine = Engine::new(model, parameters).with_passes(passes);
        Ok(Self { engine, gradients, batch, group, targets })
    }

    pub fn model(&self) -> &Llama {
        self.engine.model()
    }

    /// This rank's part of the batch.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Tokens of all ranks.
    pub fn tokens(&self) -> u64 {
        self.targets as u64
    }

    pub fn barrier(&self) -> Result<()> {
        hessian_probe::ProcessGroup::barrier(&*self.group).map_err(|error| error.to_string().into())
    }

    /// A gradient that nobody looks at.
    pub fn pass(&mut self) -> Result<()> {
        self.gradient().map(drop).map_err(|error| error.to_string().into())
    }
}

impl Host for Lent {
    fn shards(&self) -> Vec<Shard> {
        self.engine.parameters().live_shards().unwrap_or_default()
    }

    fn gradient(&mut self) -> std::result::Result<Gradient, HostError> {
        self.gradients.clear();
        let scale = 1.0 / self.targets;
        let sum =
            self.engine.accumulate_gradient(&self.group, &self.batch, scale, false, &mut self.gradients)?;
        let mut sum = [sum];
        hessian_probe::ProcessGroup::all_reduce(&*self.group, &mut sum, ReduceOp::Sum)?;
        let tensors = self.gradients.per_parameter(self.engine.parameters().layouts(), self.group.rank())?;
        Ok(Gradient { loss: sum[0] * scale, tensors })
    }

    fn group(&self) -> &dyn hessian_probe::ProcessGroup {
        &*self.group
    }
}
