//! What can go wrong, where it happened, and what to do about it.

use hessian_probe::HostError;
use std::io;
use std::path::PathBuf;
use tch::TchError;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the sharded training loop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key of the configuration has a value that cannot be used.
    #[error("configuration: `{key}`: {reason}")]
    Config {
        /// The key, as in `model.hidden_size`.
        key: String,
        /// What is wrong with it and what it may be.
        reason: String,
    },

    /// libtorch reported an error.
    #[error("rank {rank}: libtorch failed in {during}: {source}")]
    Torch {
        /// The rank on which it failed.
        rank: usize,
        /// What was computed, with the block or parameter.
        during: String,
        /// libtorch's own words.
        source: TchError,
    },

    /// A gradient cannot be computed.
    #[error("rank {rank}: {during}: {source}")]
    Autograd {
        /// The rank on which it failed.
        rank: usize,
        /// What was differentiated.
        during: String,
        /// The autograd engine's own words.
        source: HostError,
    },

    /// The state of the random generator cannot be read or restored.
    #[error("rank {rank}: the generator's state in {during}: {source}")]
    Generator {
        /// The rank on which it failed.
        rank: usize,
        /// What it was needed for.
        during: String,
        /// What went wrong.
        source: HostError,
    },

    /// A collective failed.
    #[error(
        "rank {rank}: {during} failed: {source}. A peer may be lost or stalled; its own log may say why. \
         The group cannot be used any more: start all ranks again"
    )]
    Communication {
        /// This rank.
        rank: usize,
        /// What the collective was for.
        during: String,
        /// The transport's own words.
        source: HostError,
    },

    /// The loss or the gradient is NaN or infinite; the parameters are as they were before the step.
    #[error(
        "rank {rank}: step {step}: {what} is not finite; no parameter was changed. \
         Lower `optimizer.lr`, lengthen the warm-up or set `optimizer.clip_norm`"
    )]
    NonFinite {
        /// This rank.
        rank: usize,
        /// The step, counted from 0.
        step: u64,
        /// `the loss`, `the gradient`.
        what: &'static str,
    },

    /// A file or directory with training data cannot be read.
    #[error("training data {}: {source}", path.display())]
    ReadData {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// There is too little data, or it does not fit the model.
    #[error("training data: {0}")]
    Data(String),

    /// A batch is not of the shape, kind or range that the model takes.
    #[error("rank {rank}: batch: {reason}")]
    Batch {
        /// The rank that noticed.
        rank: usize,
        /// What does not fit.
        reason: String,
    },

    /// Another rank refused its part of a batch.
    #[error("rank {rank}: {failed} other rank(s) refused their part of the batch; see their logs")]
    PeerBatch {
        /// This rank.
        rank: usize,
        /// How many ranks refused.
        failed: usize,
    },

    /// The probe asked for a loss or a gradient before the loop was given a probe batch.
    #[error(
        "rank {rank}: no probe batch: call `Trainer::set_probe_batch` or `Trainer::probe_on_validation` (or \
         `Evaluation::set_sequences`) on all \
         ranks before training starts"
    )]
    NoProbeBatch {
        /// This rank.
        rank: usize,
    },

    /// The trainer, as it is configured, cannot differentiate twice.
    #[error("rank {rank}: no exact Hessian-vector product: {reason}")]
    NoExactHvp {
        /// This rank.
        rank: usize,
        /// Why, and what to set.
        reason: String,
    },

    /// No parameter has this name.
    #[error(
        "no parameter is named `{name}`; names are Hugging Face's, as in `model.layers.0.self_attn.q_proj.weight`"
    )]
    UnknownParameter {
        /// The name that was asked for.
        name: String,
    },

    /// A tensor given for a parameter has another shape.
    #[error("parameter `{name}` has shape {expected:?}, but {found:?} was given")]
    ParameterShape {
        /// The parameter.
        name: String,
        /// Its shape.
        expected: Vec<i64>,
        /// The given tensor's shape.
        found: Vec<i64>,
    },

    /// A callback returned an error.
    #[error("rank {rank}: step {step}: a callback failed in {during}: {source}")]
    Callback {
        /// This rank.
        rank: usize,
        /// The step, counted from 0.
        step: u64,
        /// The point at which it was called.
        during: &'static str,
        /// The callback's own words.
        source: Box<hessian_probe::Error>,
    },

    /// A file or directory of a checkpoint cannot be written, read or moved.
    #[error("rank {rank}: cannot {action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// The rank on which it failed.
        rank: usize,
        /// What was attempted, as in `write`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// A checkpoint is not as it was written. Nothing was read from it into the trainer.
    #[error(
        "rank {rank}: damaged checkpoint: {}: {reason}. Use an older one: `Trainer::resume_latest` takes the \
         newest that is whole", path.display()
    )]
    Damaged {
        /// The rank that noticed.
        rank: usize,
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A checkpoint is whole but not one of this run's model, or of another version of the format.
    #[error("checkpoint {}: `{key}`: {reason}", path.display())]
    Incompatible {
        /// The checkpoint.
        path: PathBuf,
        /// What differs, as in `config.model.hidden_size`.
        key: String,
        /// How, and what to do.
        reason: String,
    },

    /// Another rank failed in work that all ranks do or none; its own error has the reason.
    #[error(
        "rank {rank}: {during}: given up on all ranks because rank {failed} failed; see that rank's error"
    )]
    Peer {
        /// This rank.
        rank: usize,
        /// The (lowest) rank that failed.
        failed: usize,
        /// What was being done.
        during: &'static str,
        /// Whether every rank that failed did so with an error that [is damage](Error::is_damage).
        damage: bool,
    },

    /// A model in Hugging Face's form cannot be read or written.
    #[error("{}: {reason}", path.display())]
    HuggingFace {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, and what is expected.
        reason: String,
    },

    /// A GGUF file cannot be read.
    #[error("{}: {reason}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the key or tensor, and what is expected.
        reason: String,
    },

    /// A key of Hugging Face's `config.json` asks for something that this model does not compute.
    #[error("{}: `{key}`: {reason}", path.display())]
    HuggingFaceKey {
        /// The file.
        path: PathBuf,
        /// The key, as in `rope_scaling.rope_type`.
        key: String,
        /// Why it cannot be honoured, and which values can.
        reason: String,
    },
}

/// What to do about an error of the file system, where that is known.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ". Make room, or lower `checkpoint.keep`"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ". Check the directory's owner and permissions"
        }
        io::ErrorKind::NotFound => ". Every rank must see the same directory",
        _ => "",
    }
}

impl Error {
    pub(crate) fn config(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { key: key.into(), reason: reason.into() }
    }

    /// Whether the group of ranks can still be used after this error.
    #[must_use]
    pub fn is_communication(&self) -> bool {
        match self {
            Self::Communication { .. } => true,
            Self::Callback { source, .. } => source.is_communication(),
            _ => false,
        }
    }

    /// Whether a checkpoint's files are at fault, so that an older checkpoint may do.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Io { .. } | Self::Peer { damage: true, .. })
    }
}

/// Says where an error of a lower layer happened.
pub(crate) trait At<T> {
    /// Adds rank and occupation; `during` is only evaluated on error.
    fn at<D: Into<String>>(self, rank: usize, during: impl FnOnce() -> D) -> Result<T>;
}

impl<T> At<T> for Result<T, TchError> {
    fn at<D: Into<String>>(self, rank: usize, during: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|source| Error::Torch { rank, during: during().into(), source })
    }
}
