//! Where and when a run saves.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What [`Trainer::run`](crate::Trainer::run) does about checkpoints.
///
/// ```
/// use hessian_probe_c10d::ProcessGroup;
/// use hessian_probe_fsdp::{CheckpointConfig, Corpus, LlamaConfig, Trainer, TrainerConfig, checkpoint};
///
/// # let corpus = Corpus::from_bytes("Fuzzy Wuzzy was a bear. ".repeat(50).into_bytes(), 0.2)?;
/// # let mut config = TrainerConfig::new(LlamaConfig::new(256, 16, 40, 1, 2), 4, 16);
/// # config.threads = Some(1);
/// # let directory = tempfile::tempdir()?;
/// # let dir = directory.path();
/// let kept = CheckpointConfig { every: Some(2), keep: Some(1), ..CheckpointConfig::new(dir) };
/// config.checkpoint = Some(kept);
/// let mut trainer = Trainer::new(config, ProcessGroup::single(), corpus)?;
/// assert_eq!(trainer.run(4, &mut [], |_| ())?.checkpoints, 2);
/// assert_eq!(checkpoint::latest(dir)?.map(|found| found.step()), Some(4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// The directory of this run's checkpoints, on a file system that every rank sees. Two runs must not
    /// save into the same one at the same time: what one is writing looks abandoned to the other.
    pub dir: PathBuf,
    /// Saves after every so many steps. Where absent, only on a callback's request and at the end of
    /// [`run`](crate::Trainer::run).
    #[serde(default)]
    pub every: Option<u64>,
    /// Keeps the newest so many checkpoints; all where absent.
    #[serde(default)]
    pub keep: Option<usize>,
    /// What becomes of the run when a checkpoint cannot be written.
    #[serde(default)]
    pub on_error: OnSaveError,
}

/// What becomes of a run when a checkpoint cannot be written. A lost rank always ends it.
///
/// ```
/// use hessian_probe_fsdp::{CheckpointConfig, OnSaveError};
///
/// let config: CheckpointConfig = toml::from_str("dir = \"runs/mine\"\non_error = \"continue\"")?;
/// assert_eq!(config.on_error, OnSaveError::Continue);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnSaveError {
    /// The run ends with the error.
    #[default]
    Stop,
    /// The error is logged and training goes on; the next checkpoint is attempted when it is due.
    Continue,
}

impl CheckpointConfig {
    /// Checkpoints in `dir` on request and at the end, all kept.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), every: None, keep: None, on_error: OnSaveError::Stop }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Config`] with the first key at fault.
    pub fn validate(&self) -> Result<()> {
        if self.every == Some(0) {
            return Err(Error::config("checkpoint.every", "is 0, must be at least 1"));
        }
        if self.keep == Some(0) {
            return Err(Error::config(
                "checkpoint.keep",
                "is 0, must be at least 1; leave it out to keep all",
            ));
        }
        Ok(())
    }
}
