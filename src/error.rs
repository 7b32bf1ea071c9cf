//! What can go wrong, where it happened, and what to do about it.

use crate::group::HostError;
use std::path::PathBuf;

/// The result of everything that a loop calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a probe, its configuration or its logs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key of the configuration has a value that cannot be used.
    #[error("configuration: `{key}`: {reason}")]
    Config {
        /// The key, as in `slq.steps`.
        key: String,
        /// What is wrong with it and what it may be.
        reason: String,
    },

    /// The text of a configuration is not the TOML that is expected: syntax, an unknown key, a type.
    #[error("configuration: {0}")]
    Toml(#[from] Box<toml::de::Error>),

    /// A configuration file cannot be read.
    #[error("configuration file {}: {source}", path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// A configuration file was read but its contents cannot be used.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<Error>,
    },

    /// The shards that the host describes do not fit together.
    #[error("rank {rank}: parameter `{parameter}`: {reason}")]
    Layout {
        /// The rank that noticed.
        rank: usize,
        /// The parameter at fault, or `*` for all of them.
        parameter: String,
        /// What does not fit.
        reason: String,
    },

    /// The host returned an error.
    #[error("rank {rank}: the host failed in {during}: {source}")]
    Host {
        /// The rank on which it failed.
        rank: usize,
        /// What was asked of it.
        during: &'static str,
        /// Its own words.
        source: HostError,
    },

    /// The host panicked; parameters were restored.
    #[error("rank {rank}: the host panicked in {during}: {message}")]
    HostPanicked {
        /// The rank on which it panicked.
        rank: usize,
        /// What was asked of it.
        during: &'static str,
        /// The panic's message.
        message: String,
    },

    /// Another rank failed and said so; its own log has the reason.
    #[error("rank {rank}: stopped in {during} because rank {failed} failed; see that rank's log")]
    Peer {
        /// This rank.
        rank: usize,
        /// The (lowest) rank that failed.
        failed: usize,
        /// What this rank was doing.
        during: &'static str,
    },

    /// A collective failed: a peer is lost or stalled.
    #[error("rank {rank}: all_reduce in {during} failed, a peer may be lost: {source}")]
    Communication {
        /// This rank.
        rank: usize,
        /// What the collective was for.
        during: &'static str,
        /// The transport's own words.
        source: HostError,
    },

    /// A gradient or a loss is NaN or infinite.
    #[error(
        "rank {rank}: {what} is not finite in {during}; the loss at the probe batch cannot be differentiated here"
    )]
    NonFinite {
        /// This rank.
        rank: usize,
        /// `the gradient`, `the loss`.
        what: &'static str,
        /// What it was computed for.
        during: &'static str,
    },

    /// A perturbation was rounded away: no parameter changed.
    #[error(
        "rank {rank}: a finite-difference step of h = {step:e} changes no parameter at their precision; \
         use a larger `hvp.step_size` or \"auto\""
    )]
    StepTooSmall {
        /// This rank.
        rank: usize,
        /// The step.
        step: f64,
    },

    /// libtorch reported an error in the probe's own vector work.
    #[error("rank {rank}: libtorch failed in {during}: {source}")]
    Torch {
        /// This rank.
        rank: usize,
        /// What was computed.
        during: &'static str,
        /// libtorch's own words.
        source: tch::TchError,
    },

    /// A log cannot be written.
    #[error("log {}: {source}", path.display())]
    Log {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// A saved state is not one that this version understands.
    #[error("saved probe state: {0}")]
    State(String),

    /// The probe's state in a checkpoint cannot be read or written.
    #[error("rank {rank}: {source}")]
    Checkpoint {
        /// The rank.
        rank: usize,
        /// What is wrong, and with which file.
        source: crate::checkpoint::SidecarError,
    },

    /// What was asked for cannot be measured yet: the optimizer has no second moments before its first step.
    #[error("not yet: {0}")]
    NotYet(String),

    /// What the host lends of its optimizer does not fit its shards, or differs between ranks.
    #[error("rank {rank}: the host's optimizer cannot be used: {reason}")]
    Optimizer {
        /// The rank that noticed.
        rank: usize,
        /// What does not fit.
        reason: String,
    },

    /// A probe would cost more than it may.
    #[error("over the budget: {0}")]
    OverBudget(String),

    /// The probe was [interrupted](crate::Interrupter), on this rank or another.
    #[error("rank {rank}: interrupted")]
    Interrupted {
        /// This rank.
        rank: usize,
    },

    /// What happened in the probe of a step.
    #[error("probe at step {step}: {source}")]
    AtStep {
        /// The training step.
        step: u64,
        /// What happened.
        source: Box<Error>,
    },
}

impl Error {
    pub(crate) fn config(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { key: key.into(), reason: reason.into() }
    }

    /// Whether this is an interruption that was asked for.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Interrupted { .. } => true,
            Self::AtStep { source, .. } | Self::InFile { source, .. } => source.is_interruption(),
            _ => false,
        }
    }

    /// Whether it is one of a probe that kept away as it should: over its budget, or before there is anything to see.
    pub(crate) fn is_expected(&self) -> bool {
        match self {
            Self::OverBudget(_) | Self::NotYet(_) => true,
            Self::AtStep { source, .. } => source.is_expected(),
            _ => false,
        }
    }

    /// Whether the group of ranks is lost by this error.
    #[must_use]
    pub fn is_communication(&self) -> bool {
        match self {
            Self::Communication { .. } => true,
            Self::AtStep { source, .. } | Self::InFile { source, .. } => source.is_communication(),
            _ => false,
        }
    }
}
