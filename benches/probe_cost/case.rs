//! One thing to measure, in a process of its own.

use crate::{Result, support};
use hessian_probe::{HessianProbe, ProbeConfig};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Attention, Corpus, CorpusConfig, LlamaConfig, Trainer, TrainerConfig};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// How long ranks wait for each other.
pub const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Probes, in turn with gradients of training.
    Time { rounds: usize, schemes: usize },
    /// What each Lanczos step sends, and the time of its vector work.
    Traffic,
    /// The peak of resident memory, with or without a probe.
    Memory { probe: bool },
    /// `on_step_end`.
    Callback,
    /// One gradient, in each way to compute it.
    Gradients { rounds: usize },
    /// One product by each formula.
    Products { rounds: usize },
}

/// A Llama with a vocabulary of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Model {
    /// 1.0 million parameters.
    Small,
    /// 10 million.
    Large,
}

impl Model {
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "1M",
            Self::Large => "10M",
        }
    }

    pub fn config(self) -> LlamaConfig {
        let (hidden, intermediate, layers, heads) = match self {
            Self::Small => (128, 344, 5, 4),
            Self::Large => (320, 864, 8, 5),
        };
        LlamaConfig {
            tie_word_embeddings: true,
            max_position_embeddings: 1024,
            attention: Attention::Sdpa,
            ..LlamaConfig::new(256, hidden, intermediate, layers, heads)
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    pub task: Task,
    pub model: Model,
    /// Sequences of all ranks, in a step of training and in the probe batch.
    pub sequences: usize,
    /// Tokens of a sequence.
    pub tokens: usize,
    /// m.
    pub steps: usize,
    pub world_size: usize,
    /// Of each rank.
    pub threads: usize,
    /// Where a second group of the same ranks meets, if there are several.
    pub port: u16,
}

impl Case {
    /// The ranks, as the environment describes them.
    pub fn group(&self) -> Result<ProcessGroup> {
        support::group(self.world_size, TIMEOUT)
    }

    /// A second group of the same ranks, for a second trainer.
    pub fn second_group(&self, first: &ProcessGroup) -> Result<ProcessGroup> {
        Ok(if self.world_size == 1 {
            ProcessGroup::single()
        } else {
            ProcessGroup::connect(first.rank(), self.world_size, "127.0.0.1", self.port, TIMEOUT)?
        })
    }

    /// A trainer on this crate's own sources, with a probe batch of the size of training's.
    pub fn trainer(&self, group: ProcessGroup) -> Result<Trainer> {
        let mut config = TrainerConfig::new(self.model.config(), self.sequences, self.tokens);
        config.threads = Some(self.threads);
        let sources = CorpusConfig::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
        let mut trainer = Trainer::new(config, group, Corpus::read(&sources)?)?;
        trainer.probe_on_validation(self.sequences)?;
        Ok(trainer)
    }

    /// A probe with the case's number of steps, changed as told, that logs to a directory of its own.
    pub fn probe(&self, change: impl FnOnce(&mut ProbeConfig)) -> Result<(HessianProbe, tempfile::TempDir)> {
        let directory = tempfile::tempdir()?;
        let mut config = ProbeConfig::default();
        config.log.dir = directory.path().to_owned();
        config.slq.steps = self.steps;
        change(&mut config);
        Ok((HessianProbe::new(config)?, directory))
    }
}
