//! Loss and gradient of a model that is not trained: shards and a gradient, no optimizer state.
//!
//! ```no_run
//! # fn run(sequences: Vec<hessian_probe_fsdp::Sequence>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use hessian_probe::{Host, HessianProbe, ProbeConfig};
//! use hessian_probe_c10d::ProcessGroup;
//! use hessian_probe_fsdp::{Evaluation, EvaluationConfig, ModelSource};
//! use std::path::Path;
//! use std::time::Duration;
//!
//! let group = ProcessGroup::from_env(Duration::from_secs(60))?;
//! let source = ModelSource::open_together(Path::new("SmolLM2-135M"), &group)?;
//! let mut evaluation = Evaluation::new(&source, &group, EvaluationConfig::default())?;
//! evaluation.set_sequences(&sequences)?;
//! let snapshot = HessianProbe::new(ProbeConfig::default())?.probe(0, &mut evaluation)?;
//! # Ok(())
//! # }
//! ```
//!
//! A rank holds its slices of parameters and gradient, `2 n/W`, and what a pass over one micro-batch takes: the
//! [crate's page](crate) has the diagram.

mod exact;
mod host;
mod micro_batches;

use crate::checkpoint::{ModelSource, agree};
use crate::data::Sequence;
use crate::engine::{Batch, Engine, PassConfig};
use crate::error::{Error, Result};
use crate::model::{Attention, IGNORE_INDEX, Llama, LlamaConfig};
use crate::precision::{Dtype, MixedPrecision};
use crate::sharding::{GradientShards, ShardedParameters};
use crate::trainer::reduce;
use hessian_probe::{Precision, ReduceOp};
use hessian_probe_c10d::ProcessGroup;
use micro_batches::micro_batches;
use tch::{Device, Tensor};

/// How a model is evaluated.
///
/// ```
/// use hessian_probe_fsdp::{Dtype, EvaluationConfig, MixedPrecision};
///
/// // As a loop with f32 masters and bf16 passes sees the model.
/// let config = EvaluationConfig { mixed_precision: MixedPrecision::bf16(), ..EvaluationConfig::default() };
/// assert_eq!(config.dtype, Dtype::F32);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvaluationConfig {
    /// Of parameters and gradients, and of activations; weights are converted to it.
    pub dtype: Dtype,
    /// What differs from that in a pass. `dtype = F32` with [`MixedPrecision::bf16`] evaluates f32 parameters as a
    /// loop with f32 masters and bf16 passes does.
    pub mixed_precision: MixedPrecision,
    /// How attention is computed; exact products need [`Attention::Plain`].
    pub attention: Attention,
    /// What a gradient trades for memory.
    pub passes: PassConfig,
    /// The tokens of a micro-batch on one rank, padding included; a longer sequence has one of its own. By
    /// default as many as keep the logits at 2²⁶ elements or less, and at most 8192. Results do not depend on it
    /// but for the order of sums.
    pub micro_batch_tokens: Option<usize>,
}

/// A pretrained model, sharded over the ranks of a group, and the sequences that its loss is the mean over: a
/// [`Host`](hessian_probe::Host) whose parameters nobody but a probe changes.
///
/// ```
/// use hessian_probe_c10d::ProcessGroup;
/// use hessian_probe_fsdp::{Evaluation, EvaluationConfig, ModelSource, Sequence};
/// # use hessian_probe_fsdp::{Corpus, LlamaConfig, Trainer, TrainerConfig};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("model");
/// # let corpus = Corpus::from_bytes("Fuzzy Wuzzy was a bear. ".repeat(50).into_bytes(), 0.2)?;
/// # let mut config = TrainerConfig::new(LlamaConfig::new(256, 16, 40, 1, 2), 4, 16);
/// # config.threads = Some(1);
/// # Trainer::new(config, ProcessGroup::single(), corpus.clone())?.export_hugging_face(&path)?;
/// let group = ProcessGroup::single();
/// let mut evaluation = Evaluation::new(&ModelSource::open(&path)?, &group, EvaluationConfig::default())?;
/// evaluation.set_sequences(&[Sequence { inputs: b"bear".map(i64::from).to_vec(), labels: b"ear.".map(i64::from).to_vec() }])?;
/// let (loss, gradient) = evaluation.mean_gradient()?;
/// assert!((loss - evaluation.mean_loss()?).abs() < 1e-6 && !gradient.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Evaluation<'g> {
    group: &'g ProcessGroup,
    config: EvaluationConfig,
    engine: Engine,
    gradients: GradientShards,
    /// Equally many on every rank.
    batches: Vec<Batch>,
    /// The counted targets of all ranks.
    targets: f64,
}

impl<'g> Evaluation<'g> {
    /// Reads this rank's slices of the model. Collective.
    ///
    /// # Errors
    /// [`Config`](Error::Config) for a `mixed_precision` that does not fit `dtype`; on all ranks if on one:
    /// [`HuggingFace`](Error::HuggingFace) for weights that are missing, of another shape or
    /// not the model's, before memory is taken; [`Torch`](Error::Torch) where it is short.
    pub fn new(source: &ModelSource, group: &'g ProcessGroup, config: EvaluationConfig) -> Result<Self> {
        config.mixed_precision.validate(config.dtype)?;
        let policy = config.mixed_precision.policy(config.dtype);
        let model = LlamaConfig { attention: config.attention, ..source.config().clone() };
        let (rank, world_size) = (group.rank(), group.world_size());
        let prepared = || {
            let model = Llama::new(model, config.dtype.kind(), Device::Cpu)?;
            source.check_model(&model)?;
            let parameters = ShardedParameters::zeros(&model, rank, world_size)?;
            let gradients = GradientShards::new(parameters.layouts(), rank, model.kind(), model.device())?;
            Ok((Engine::with_policy(model, parameters, policy).with_passes(config.passes), gradients))
        };
        let (engine, gradients) = agree(group, "making room for a model", prepared())?;
        agree(group, "reading a model", source.read_into(engine.parameters(), rank))?;
        Ok(Self { group, config, engine, gradients, batches: Vec::new(), targets: 0.0 })
    }

    /// Sets what the loss is the mean over: all counted targets of `sequences`, which are the same on all ranks, may
    /// differ in length and may be fewer than the ranks. Each rank takes its part of them, in micro-batches that are
    /// padded on the right: attention is causal, so that no counted target sees padding. Collective.
    ///
    /// # Errors
    /// On all ranks if on one: [`Batch`](Error::Batch) where a sequence is longer than the model's positions, a token
    /// is not of its vocabulary, or nothing is counted.
    pub fn set_sequences(&mut self, sequences: &[Sequence]) -> Result<()> {
        let (rank, world_size) = (self.group.rank(), self.group.world_size());
        let budget = self.config.micro_batch_tokens.unwrap_or_else(|| default_tokens(self.model()));
        let mine = check(sequences, self.model()).map_err(|reason| Error::Batch { rank, reason });
        let mine = mine.and_then(|()| micro_batches(sequences, rank, world_size, budget));
        let mut batches = agree(self.group, "preparing the data", mine)?;
        let mut most = [batches.len() as f64];
        reduce(self.group, &mut most, ReduceOp::Max, "preparing the data")?;
        while batches.len() < most[0] as usize {
            batches.push(Batch::idle(rank, self.engine.model().device())?);
        }
        self.targets = sequences.iter().map(counted).sum::<usize>() as f64;
        self.batches = batches;
        Ok(())
    }

    /// The model's sizes.
    #[must_use]
    pub fn model(&self) -> &LlamaConfig {
        self.engine.model().config()
    }

    /// n, the number of parameters of the whole model.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.engine.model().parameter_count()
    }

    /// The mean loss, by forward passes. Collective.
    ///
    /// # Errors
    /// [`NoProbeBatch`](Error::NoProbeBatch), [`Torch`](Error::Torch), [`Communication`](Error::Communication).
    pub fn mean_loss(&self) -> Result<f64> {
        self.has_data()?;
        let mut sum = [0.0];
        for batch in &self.batches {
            sum[0] += self.engine.loss_sum(self.group, batch, false)?;
        }
        reduce(self.group, &mut sum, ReduceOp::Sum, "reducing the loss")?;
        Ok(sum[0] / self.targets)
    }

    /// The mean loss and this rank's slices of its gradient, aliases of one buffer. Collective.
    ///
    /// # Errors
    /// As [`mean_loss`](Self::mean_loss), and [`Autograd`](Error::Autograd).
    pub fn mean_gradient(&mut self) -> Result<(f64, Vec<Tensor>)> {
        self.has_data()?;
        let (mut sum, scale) = ([0.0], 1.0 / self.targets);
        self.gradients.clear();
        for batch in &self.batches {
            sum[0] +=
                self.engine.accumulate_gradient(self.group, batch, scale, false, &mut self.gradients)?;
        }
        reduce(self.group, &mut sum, ReduceOp::Sum, "reducing the loss")?;
        let tensors = self.gradients.per_parameter(self.engine.parameters().layouts(), self.group.rank())?;
        Ok((sum[0] / self.targets, tensors))
    }

    /// Passes and [`Host::shards`](hessian_probe::Host::shards) are in `precision` from now on, and so are the buffers
    /// of the gradient.
    fn change_precision(&mut self, precision: Precision) -> Result<()> {
        if precision != self.engine.precision() {
            self.engine.set_precision(precision)?;
            let (layouts, device) = (self.engine.parameters().layouts(), self.engine.model().device());
            let kind = self.engine.policy().parameters;
            self.gradients = GradientShards::new(layouts, self.group.rank(), kind, device)?;
        }
        Ok(())
    }

    fn has_data(&self) -> Result<()> {
        if self.batches.is_empty() { Err(Error::NoProbeBatch { rank: self.group.rank() }) } else { Ok(()) }
    }
}

/// Logits are the largest activation of a model with a large vocabulary, and exist several times in its backward
/// pass.
const MAX_LOGITS: usize = 1 << 26;
const MAX_TOKENS: usize = 8192;

fn default_tokens(model: &LlamaConfig) -> usize {
    (MAX_LOGITS / model.vocab_size).clamp(1, MAX_TOKENS)
}

/// The number of a sequence's targets that are counted.
fn counted(sequence: &Sequence) -> usize {
    sequence.labels.iter().filter(|&&label| label != IGNORE_INDEX).count()
}

/// Whether sequences can be run; numbers count from 0.
fn check(sequences: &[Sequence], model: &LlamaConfig) -> Result<(), String> {
    let vocabulary = 0..i64::try_from(model.vocab_size).unwrap_or(i64::MAX);
    for (number, sequence) in sequences.iter().enumerate() {
        let (inputs, labels) = (&sequence.inputs, &sequence.labels);
        if inputs.len() != labels.len() {
            return Err(format!("sequence {number} has {} tokens and {} labels", inputs.len(), labels.len()));
        }
        if inputs.len() > model.max_position_embeddings {
            return Err(format!(
                "sequence {number} has {} tokens, more than max_position_embeddings = {}",
                inputs.len(),
                model.max_position_embeddings
            ));
        }
        let strange = |&&value: &&i64| !vocabulary.contains(&value);
        let label = labels.iter().filter(|&&label| label != IGNORE_INDEX).find(strange);
        if let Some(token) = inputs.iter().find(strange).or(label) {
            return Err(format!(
                "sequence {number} has the token {token}, but vocab_size = {}",
                model.vocab_size
            ));
        }
    }
    if sequences.iter().all(|sequence| counted(sequence) == 0) {
        return Err("no target is counted".into());
    }
    Ok(())
}
