//! What a user can set: one struct, read from TOML, validated before any training step.

mod hvp;
mod slq;

use crate::blocks::BlocksConfig;
use crate::budget::BudgetConfig;
use crate::directions::DirectionsConfig;
use crate::error::{Error, Result};
use crate::schedule::ScheduleConfig;
use crate::sharpness::SharpnessConfig;
use crate::tracking::TrackConfig;
use crate::triggers::TriggersConfig;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub use hvp::{Difference, HvpConfig, StepSize};
pub use slq::{
    BasisConfig, BasisDevice, BasisKind, Distribution, Reorthogonalize, SlqConfig, SpectrumOf, VectorKind,
};

/// The configuration of a [`HessianProbe`](crate::HessianProbe). Every key has a default; an unknown
/// key is an error that names it.
///
/// ```
/// let config = hessian_probe::ProbeConfig::from_toml_str(
///     r#"
///     [schedule]
///     every = 500
///
///     [slq]
///     steps = 20
///     probes = 2
///
///     [log]
///     dir = "runs/curvature"
///     "#,
/// )?;
/// assert_eq!(config.slq.steps, 20);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// What happens to training when a probe fails.
    pub on_error: OnError,
    /// When to probe.
    pub schedule: ScheduleConfig,
    /// Stochastic Lanczos quadrature.
    pub slq: SlqConfig,
    /// Hessian-vector products.
    pub hvp: HvpConfig,
    /// The block-diagonal part of the Hessian; off by default.
    pub blocks: BlocksConfig,
    /// Curvature along single directions; off by default.
    #[serde(skip_serializing_if = "DirectionsConfig::is_off")]
    pub directions: DirectionsConfig,
    /// The largest eigenvalue between full probes.
    pub track: TrackConfig,
    /// Critical sharpness by forward passes; off by default.
    #[serde(skip_serializing_if = "SharpnessConfig::is_default")]
    pub sharpness: SharpnessConfig,
    /// What starts a probe besides the schedule; off by default.
    #[serde(skip_serializing_if = "TriggersConfig::is_default")]
    pub triggers: TriggersConfig,
    /// What a probe may cost.
    pub budget: BudgetConfig,
    /// How a long probe survives the end of its process.
    pub resume: ResumeConfig,
    /// Where the results go.
    pub log: LogConfig,
}

/// What happens to training when a probe fails. Parameters are restored in either case.
///
/// ```
/// use hessian_probe::{OnError, ProbeConfig};
///
/// assert_eq!(ProbeConfig::from_toml_str("")?.on_error, OnError::Skip);
/// assert_eq!(ProbeConfig::from_toml_str("on_error = \"stop\"")?.on_error, OnError::Stop);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The probe is skipped, its reason is logged, training goes on. A lost rank is an error all the
    /// same: the loop's own next collective could not succeed either.
    #[default]
    Skip,
    /// The callback returns the error.
    Stop,
}

/// How a long probe survives the end of its process: its Lanczos vectors and T are saved as it goes, and the
/// next process that probes the same step with the same parameters, data and configuration, on any number of
/// ranks, goes on from them.
///
/// ```
/// use hessian_probe::ProbeConfig;
///
/// let config = ProbeConfig::from_toml_str("[resume]\nevery = 8\ndir = \"runs/mine/krylov\"")?;
/// assert_eq!(config.resume_directory(), std::path::Path::new("runs/mine/krylov"));
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeConfig {
    /// Save after every so many Lanczos steps; not at all by default. Each vector is written once, by each
    /// rank its own part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<usize>,
    /// The directory, which all ranks must see; by default `krylov` in the log directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

/// Where the results go. Rank 0 writes.
///
/// ```
/// use hessian_probe::ProbeConfig;
///
/// let config = ProbeConfig::from_toml_str("[log]\ndir = \"runs/mine\"\nplots = false")?;
/// assert!(config.log.tensorboard && config.log.jsonl && !config.log.plots);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The directory, made if it does not exist.
    pub dir: PathBuf,
    /// Whether to write a TensorBoard event file.
    pub tensorboard: bool,
    /// Whether to write `snapshots.jsonl`.
    pub jsonl: bool,
    /// Whether the event file also has images: the spectral density at each probe, and over steps. The writer thread draws
    /// them.
    pub plots: bool,
    /// How many records may wait for the disk; one more is dropped with a warning, training never waits.
    pub queue: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("runs/hessian-probe"),
            tensorboard: true,
            jsonl: true,
            plots: true,
            queue: 64,
        }
    }
}

impl ProbeConfig {
    /// Reads and validates a configuration file.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown key or an impossible value; the
    /// message names the file, the key and the reason.
    pub fn from_toml(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::ReadConfig { path: path.to_owned(), source })?;
        Self::from_toml_str(&text)
            .map_err(|source| Error::InFile { path: path.to_owned(), source: Box::new(source) })
    }

    /// Reads and validates a configuration.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml).
    pub fn from_toml_str(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(Box::new)?;
        config.validate()?;
        Ok(config)
    }

    /// Where probes that are under way are saved.
    #[must_use]
    pub fn resume_directory(&self) -> PathBuf {
        self.resume.dir.clone().unwrap_or_else(|| self.log.dir.join("krylov"))
    }

    /// The configuration as TOML, defaults filled in.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    /// Checks every value on its own; what depends on the model (steps ≤ n) is checked at the start
    /// of training.
    ///
    /// # Errors
    /// The first impossible value, by key and reason.
    pub fn validate(&self) -> Result<()> {
        self.schedule.validate()?;
        self.slq.validate()?;
        self.hvp.validate()?;
        self.blocks.validate()?;
        self.track.validate()?;
        self.sharpness.validate()?;
        self.triggers.validate(self.track.every.is_some(), self.sharpness.every.is_some())?;
        self.budget.validate()?;
        if self.resume.every == Some(0) {
            return Err(Error::config("resume.every", "must be at least 1; leave it out to save nothing"));
        }
        if self.resume.every.is_some() && self.slq.deflate > 0 {
            let reason = "a probe that deflates outliers cannot be resumed; leave out one of resume.every and slq.deflate";
            return Err(Error::config("resume.every", reason));
        }
        self.log.validate()
    }
}

impl LogConfig {
    fn validate(&self) -> Result<()> {
        if self.queue == 0 {
            return Err(Error::config("log.queue", "must be at least 1"));
        }
        if self.dir.as_os_str().is_empty() {
            return Err(Error::config("log.dir", "must name a directory"));
        }
        Ok(())
    }
}
