//! One rank: trains from the newest checkpoint on, until it is done or something ends it.

use crate::Result;
use crate::curve::CurveWriter;
use crate::records::{Event, Orders, Phase, Presence};
use crate::watched::Watched;
use crate::{disk, faults, signals};
use hessian_probe::{Callback, HessianProbe, ProbeConfig};
use hessian_probe_c10d::{ProcessGroup, RankLogger};
use hessian_probe_fsdp::{
    CheckpointConfig, Corpus, LlamaConfig, OnSaveError, Sequence, SequenceId, SequenceSource, StepReport,
    Trainer, TrainerConfig,
};
use std::rc::Rc;
use std::time::Duration;
use tch::{Kind, Tensor};

/// How long ranks wait for each other at the start, and in a collective.
const MEETING: Duration = Duration::from_secs(20);
pub const PATIENCE: Duration = Duration::from_secs(5);

pub const CHECKPOINT_EVERY: u64 = 12;
pub const CHECKPOINTS_KEPT: usize = 3;
pub const PROBE_EVERY: u64 = 8;

pub fn main() -> Result<()> {
    let orders: Orders = serde_json::from_str(&std::env::var(Orders::VARIABLE)?)?;
    let logger = env_logger::Builder::new().filter_level(log::LevelFilter::Warn).build();
    RankLogger::from_env(logger).install(log::LevelFilter::Warn)?;
    disk::errors_not_signals();
    let probe = HessianProbe::new(probe_config(&orders)?)?;
    signals::interrupt_on_sigterm(probe.interrupter());
    let rank: usize = std::env::var("RANK")?.parse()?;
    let presence = Rc::new(Presence::announce(&orders.dir, rank)?);

    let mut group = ProcessGroup::from_env(MEETING)?;
    group.set_timeout(PATIENCE)?;
    let config = training(&orders, group.world_size());
    let mut trainer = Trainer::new(config, group, Text::new(Rc::clone(&presence))?)?;
    trainer.probe_on_validation(2 * trainer.group().world_size())?;

    let mut watched = Watched::new(probe, &orders, &presence, rank, CHECKPOINT_EVERY);
    presence.set(Phase::Resume);
    let result = train(&orders, &mut trainer, &mut watched);
    presence.set(Phase::End);

    let Watched { probe, records, snapshots, .. } = watched;
    // Closes the logs.
    drop(probe);
    let failed_checkpoints = result.as_ref().ok().map(|report| report.failed_checkpoints);
    let stopped = result.as_ref().is_ok_and(|report| report.stopped);
    if rank == 0 {
        let (session, step) = (orders.session, trainer.steps_done());
        Event::Ended { session, step, records, snapshots, failed_checkpoints, stopped }
            .append(&orders.dir)?;
    }
    result?;
    if trainer.steps_done() == orders.steps {
        let parameters = trainer.named_shards()?.into_iter().map(|shard| shard.tensor);
        let (first, second) = trainer.moments()?;
        let (parameters, moments) = (fingerprint(parameters)?, fingerprint(first.into_iter().chain(second))?);
        let random_state = trainer.generator_state()?.into_iter().fold(BASIS, hash);
        Event::Final { rank, parameters, moments, random_state }.append(&orders.dir)?;
    }
    Ok(())
}

fn train(
    orders: &Orders,
    trainer: &mut Trainer,
    watched: &mut Watched<'_>,
) -> Result<hessian_probe_fsdp::RunReport> {
    let (rank, ranks) = (trainer.group().rank(), trainer.group().world_size());
    let mut callbacks: Vec<&mut dyn Callback> = Vec::new();
    if orders.probes {
        callbacks.push(watched);
        trainer.resume_latest(&orders.checkpoints(), &mut callbacks)?;
    }
    let (session, step) = (orders.session, trainer.steps_done());
    let mut curve = None;
    if rank == 0 {
        Event::Resumed { session, step }.append(&orders.dir)?;
        curve = Some(CurveWriter::open(&orders.dir)?);
    }
    let on_step = |report: &StepReport| {
        // A loss that cannot be written will be missed by the supervisor.
        if let Some(Err(error)) = curve.as_mut().map(|curve| curve.append(report.step, report.loss)) {
            log::error!("the losses: {error}");
        }
        let saves = orders.faults && (report.step + 1).is_multiple_of(CHECKPOINT_EVERY);
        if saves && faults::full_disk(orders.seed, session, report.step, ranks) == Some(rank) {
            let told = Event::FullDisk { session, step: report.step }.append(&orders.dir);
            if let Err(error) = told.and_then(|()| Ok(disk::fill()?)) {
                log::error!("filling the disk: {error}");
            }
        }
    };
    Ok(trainer.run(orders.steps.saturating_sub(step), &mut callbacks, on_step)?)
}

fn probe_config(orders: &Orders) -> hessian_probe::Result<ProbeConfig> {
    let config = format!(
        "on_error = \"skip\"\n[schedule]\nevery = {PROBE_EVERY}\n[slq]\nsteps = 4\n[resume]\nevery = 2\n[log]\ndir = {:?}",
        orders.logs()
    );
    ProbeConfig::from_toml_str(&config)
}

fn training(orders: &Orders, ranks: usize) -> TrainerConfig {
    let model = LlamaConfig {
        num_key_value_heads: Some(1),
        tie_word_embeddings: true,
        max_position_embeddings: 16,
        initializer_range: 0.1,
        dropout: 0.1,
        ..LlamaConfig::new(256, 16, 40, 1, 2)
    };
    let mut config = TrainerConfig::new(model, 2 * ranks, 16);
    config.gradient_accumulation = 2;
    config.optimizer.lr = 1e-3;
    config.optimizer.clip_norm = Some(1.0);
    config.seed = orders.seed;
    config.threads = Some(1);
    config.checkpoint = orders.probes.then(|| CheckpointConfig {
        every: Some(CHECKPOINT_EVERY),
        keep: Some(CHECKPOINTS_KEPT),
        on_error: OnSaveError::Continue,
        ..CheckpointConfig::new(orders.checkpoints())
    });
    config
}

/// Sums to learn; notes when a step begins.
struct Text {
    corpus: Corpus,
    presence: Rc<Presence>,
}

impl Text {
    fn new(presence: Rc<Presence>) -> Result<Self> {
        let sum = |i: u32| format!("{} plus {} is {}\n", i % 7, i % 5, i % 7 + i % 5);
        let corpus = Corpus::from_bytes((0..4000).map(sum).collect::<String>().into_bytes(), 0.2)?;
        Ok(Self { corpus, presence })
    }
}

impl SequenceSource for Text {
    fn training(&self, id: SequenceId, length: usize) -> hessian_probe_fsdp::Result<Sequence> {
        if let Err(error) = disk::make_room() {
            log::error!("making room on the disk: {error}");
        }
        self.presence.set(Phase::Step);
        self.corpus.training(id, length)
    }

    fn validation(&self, index: u64, length: usize) -> hessian_probe_fsdp::Result<Sequence> {
        self.corpus.validation(index, length)
    }

    fn vocab_size(&self) -> usize {
        self.corpus.vocab_size()
    }
}

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of FNV-1a.
fn hash(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

/// A hash of the elements' bits.
fn fingerprint(tensors: impl Iterator<Item = Tensor>) -> Result<u64> {
    let mut state = BASIS;
    for tensor in tensors {
        let tensor = tensor.f_detach()?.f_to_kind(Kind::Double)?.f_contiguous()?;
        let mut values = vec![0.0_f64; tensor.numel()];
        let count = values.len();
        tensor.f_copy_data(&mut values, count)?;
        state = values.iter().flat_map(|value| value.to_bits().to_le_bytes()).fold(state, hash);
    }
    Ok(state)
}
