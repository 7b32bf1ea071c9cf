//! The training loop.

mod exact;
mod host;
mod optimizer;
mod precision;
mod probe;
mod run;
mod step;

pub use probe::ProbeBatch;
pub use run::RunReport;
pub use step::StepReport;
pub(crate) use step::reduce;

use crate::config::TrainerConfig;
use crate::data::SequenceSource;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::{Llama, hash};
use crate::optimizer::AdamW;
use crate::sharding::{GatherMeter, GradientShards, ShardedParameters, split_shards};
use hessian_probe::{ReduceOp, Shard};
use hessian_probe_c10d::{ProcessGroup, generator};
use probe::Probe;
use tch::{Device, Tensor};

/// A fully sharded training run: this rank's part of the parameters, gradients and optimizer state.
///
/// One per process: dropout draws from libtorch's default generator, which is the process's. It is
/// seeded with a hash of (seed, rank), so that ranks drop different elements.
///
/// ```
/// use hessian_probe::{HessianProbe, ProbeConfig};
/// use hessian_probe_c10d::ProcessGroup;
/// use hessian_probe_fsdp::{Corpus, LlamaConfig, Trainer, TrainerConfig};
///
/// let corpus = Corpus::from_bytes("Fuzzy Wuzzy was a bear. ".repeat(50).into_bytes(), 0.2)?;
/// let mut config = TrainerConfig::new(LlamaConfig::new(256, 16, 40, 1, 2), 4, 16);
/// config.threads = Some(1);
/// let mut trainer = Trainer::new(config, ProcessGroup::single(), corpus)?;
/// trainer.probe_on_validation(4)?;
///
/// let probe = "[schedule]\nat_end = true\n[slq]\nsteps = 4\n[log]\ntensorboard = false\njsonl = false";
/// let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(probe)?)?;
/// let report = trainer.run(3, &mut [&mut probe], |step| println!("{} {}", step.step, step.loss))?;
/// assert_eq!(report.steps, 3);
/// assert_eq!(probe.latest().map(|snapshot| snapshot.parameters), Some(trainer.parameter_count()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    config: TrainerConfig,
    group: ProcessGroup,
    source: Box<dyn SequenceSource>,
    engine: Engine,
    pub(crate) optimizer: AdamW,
    gradients: GradientShards,
    /// The backward pass that the optimizer has not used yet.
    pending: Option<step::Pending>,
    step: u64,
    tokens: u64,
    /// The loss of the last step.
    loss: Option<f64>,
    total_steps: Option<u64>,
    probe: Option<Probe>,
}

impl Trainer {
    /// The run of `config` on the ranks of `group`, with data from `source`. Collective: ranks make sure
    /// that they have the same configuration, since slices of different models would not be noticed.
    ///
    /// # Errors
    /// [`Config`](Error::Config), [`Communication`](Error::Communication), [`Data`](Error::Data) (more tokens than the model's vocabulary),
    /// [`Torch`](Error::Torch) when memory is short.
    pub fn new(
        config: TrainerConfig,
        group: ProcessGroup,
        source: impl SequenceSource + 'static,
    ) -> Result<Self> {
        let seed = Some(config.seed);
        Self::build(config, group, Box::new(source), seed)
    }

    /// [`new`](Self::new) with parameters of zero, which the caller sets before anybody sees them.
    pub(crate) fn without_parameters(
        config: TrainerConfig,
        group: ProcessGroup,
        source: impl SequenceSource + 'static,
    ) -> Result<Self> {
        Self::build(config, group, Box::new(source), None)
    }

    /// With the initial values of `initial`, a seed, or of zero.
    fn build(
        config: TrainerConfig,
        group: ProcessGroup,
        source: Box<dyn SequenceSource>,
        initial: Option<u64>,
    ) -> Result<Self> {
        let (rank, world_size) = (group.rank(), group.world_size());
        config.validate(world_size)?;
        agree(&config, &group)?;
        if source.vocab_size() > config.model.vocab_size {
            return Err(Error::Data(format!(
                "it has {} different tokens, but model.vocab_size = {}",
                source.vocab_size(),
                config.model.vocab_size
            )));
        }
        if let Some(threads) = config.threads.and_then(|threads| i32::try_from(threads).ok()) {
            tch::set_num_threads(threads);
        }
        let model = Llama::new(config.model.clone(), config.dtype.kind(), Device::Cpu)?;
        let parameters = match initial {
            Some(seed) => ShardedParameters::initialized(&model, rank, world_size, seed)?,
            None => ShardedParameters::zeros(&model, rank, world_size)?,
        };
        let policy = config.mixed_precision.policy(config.dtype);
        let optimizer = AdamW::new(config.optimizer, &parameters)?;
        let gradients = GradientShards::new(parameters.layouts(), rank, model.kind(), model.device())?;
        // The streams of initial values and data start from other counters.
        tch::manual_seed(hash(hash(config.seed, 2), rank as u64).cast_signed());
        Ok(Self {
            total_steps: config.schedule.total_steps(),
            group,
            source,
            engine: Engine::with_policy(model, parameters, policy).with_passes(config.passes),
            config,
            optimizer,
            gradients,
            pending: None,
            step: 0,
            tokens: 0,
            loss: None,
            probe: None,
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// The ranks.
    #[must_use]
    pub fn group(&self) -> &ProcessGroup {
        &self.group
    }

    /// Ends the run and hands the ranks back.
    #[must_use]
    pub fn into_group(self) -> ProcessGroup {
        self.group
    }

    /// The model with this rank's parameters.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The number of optimizer steps taken, which is the number of the next one.
    #[must_use]
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// The tokens that all ranks together have trained on.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The number of parameters of the whole model.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.engine.model().parameter_count()
    }

    /// The meter of gathered blocks.
    #[must_use]
    pub fn meter(&self) -> &GatherMeter {
        self.engine.parameters().meter()
    }

    /// This rank's slice of every parameter; aliases.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch), when libtorch cannot allocate a view.
    pub fn named_shards(&self) -> Result<Vec<Shard>> {
        self.engine.parameters().shards()
    }

    /// The whole of one parameter, as a copy. Collective.
    ///
    /// # Errors
    /// [`UnknownParameter`](Error::UnknownParameter), [`Communication`](Error::Communication).
    pub fn full_parameter(&self, name: &str) -> Result<Tensor> {
        self.engine.parameters().full(&self.group, name)
    }

    /// Sets the whole of one parameter; every rank takes its slice of `values`.
    ///
    /// # Errors
    /// [`UnknownParameter`](Error::UnknownParameter), [`ParameterShape`](Error::ParameterShape).
    pub fn set_parameter(&mut self, name: &str, values: &Tensor) -> Result<()> {
        self.engine.parameters().set(name, values)
    }

    /// The first and second moments of AdamW, each aligned with [`named_shards`](Self::named_shards);
    /// aliases.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch), when libtorch cannot allocate a view.
    pub fn moments(&self) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let (layouts, rank) = (self.engine.parameters().layouts(), self.group.rank());
        Ok((
            split_shards(layouts, self.optimizer.first_moments(), rank)?,
            split_shards(layouts, self.optimizer.second_moments(), rank)?,
        ))
    }

    /// Goes on as after `step` steps; parameters and moments are set through their tensors.
    pub(crate) fn restore_progress(&mut self, step: u64, tokens: u64, optimizer_steps: u64) {
        self.pending = None;
        self.step = step;
        self.tokens = tokens;
        self.optimizer.set_steps(optimizer_steps);
    }

    /// The state of the generator that dropout draws from.
    ///
    /// # Errors
    /// [`Generator`](Error::Generator).
    pub fn generator_state(&self) -> Result<Vec<u8>> {
        generator::state(self.engine.model().device()).map_err(|source| Error::Generator {
            rank: self.group.rank(),
            during: "reading it".into(),
            source: Box::new(source),
        })
    }

    /// Puts the generator into a state that [`generator_state`](Self::generator_state) returned.
    ///
    /// # Errors
    /// [`Generator`](Error::Generator).
    pub fn set_generator_state(&mut self, state: &[u8]) -> Result<()> {
        generator::set_state(self.engine.model().device(), state).map_err(|source| Error::Generator {
            rank: self.group.rank(),
            during: "restoring it".into(),
            source: Box::new(source),
        })
    }
}

/// Compares a hash of the configuration, but for the threads, which may differ.
fn agree(config: &TrainerConfig, group: &ProcessGroup) -> Result<()> {
    let text = format!("{:?}", TrainerConfig { threads: None, ..config.clone() });
    // The upper 52 bits are exact as f64.
    let mine = (text.bytes().fold(0, |state, byte| hash(state, byte.into())) >> 12) as f64;
    let mut range = [mine, -mine];
    step::reduce(group, &mut range, ReduceOp::Max, "comparing configurations")?;
    if range[0] == -range[1] {
        return Ok(());
    }
    Err(Error::config("*", format!("rank {}: the ranks have different configurations", group.rank())))
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("config", &self.config)
            .field("rank", &self.group.rank())
            .field("world_size", &self.group.world_size())
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
