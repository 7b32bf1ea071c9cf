//! What can go wrong, where, and what to do about it.

use rusttorch::RustTorchError;

/// An error of this crate's host or group. In a probe it comes inside of [`hessian_probe::Error::Host`], which says the rank
/// and what was being computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The closure failed, here or on another rank, its loss cannot be differentiated, or libtorch failed in the host's own
    /// work.
    #[error(transparent)]
    Evaluation(#[from] hessian_probe_var_store::Error),

    /// One of the trainer's or the group's own calls failed. After that `rusttorch` closes the group.
    #[error(
        "rank {rank} failed in {during}: {source}; the process group is closed now: start all ranks again from their last \
         checkpoint, with a longer `GroupOptions::timeout` where a rank was only late, and a larger `max_message_bytes` \
         where a message was too long"
    )]
    Collective {
        /// What was communicated.
        during: &'static str,
        /// This rank.
        rank: usize,
        /// The crate's own words.
        source: RustTorchError,
    },

    /// Somebody holds the group.
    #[error(
        "the process group is in use (`SharedGroup::borrow_mut`) on rank {rank}; let go of it before the probe is called"
    )]
    GroupInUse {
        /// This rank.
        rank: usize,
    },

    /// The trainer is not the one that the host was made for.
    #[error(
        "parameter `{parameter}` of the trainer is not the one that the host was made for; make the host anew after the \
         trainer was restored or replaced"
    )]
    Replaced {
        /// Its name.
        parameter: String,
    },
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
