//! What can go wrong between ranks, on which of them, and what to do about it.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a group of ranks, of the launcher or of the small bindings beside them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An environment variable of torchrun's conventions is missing or makes no sense.
    #[error("environment variable {variable}: {reason}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// What is wrong, and what sets it.
        reason: String,
    },

    /// The ranks did not find each other.
    #[error("rank {rank} of {world_size}: cannot form a group at {address}: {message}{missing}")]
    Connect {
        /// This rank.
        rank: usize,
        /// The number of ranks expected.
        world_size: usize,
        /// `MASTER_ADDR:MASTER_PORT`.
        address: String,
        /// c10d's own words.
        message: String,
        /// Which ranks never came, where that is known.
        missing: Silent,
    },

    /// This rank passed something that the collective cannot take. Nothing was sent but the refusal,
    /// which the other ranks receive as [`PeerArgument`](Self::PeerArgument); the group stays usable.
    #[error("rank {rank}: {operation}: {reason}")]
    Argument {
        /// This rank.
        rank: usize,
        /// The collective, with its tensor.
        operation: String,
        /// What is wrong and what is expected.
        reason: String,
    },

    /// Another rank passed something that the collective cannot take. The group stays usable.
    #[error("rank {rank}: {operation}: not done, because rank {peer} refused its own argument: {reason}")]
    PeerArgument {
        /// This rank.
        rank: usize,
        /// What this rank called.
        operation: String,
        /// The rank that refused.
        peer: usize,
        /// What that rank says (cut to the size of a packet).
        reason: String,
    },

    /// The ranks called different collectives, or the same with different sizes or dtypes. Every rank
    /// receives this error, nothing was reduced, and the group stays usable.
    #[error(
        "rank {rank}: the ranks disagree at collective {sequence}: {calls}; \
         all ranks must make the same calls in the same order"
    )]
    Mismatch {
        /// This rank.
        rank: usize,
        /// The number of the collective in this group, from 0.
        sequence: u64,
        /// Who called what.
        calls: String,
    },

    /// A peer closed its connection: it died, or gave up on this group. The group is closed.
    #[error(
        "rank {rank}: {operation}: failed after {elapsed:?}, a peer is lost or gave up{silent}; restart the ranks from a checkpoint ({message})"
    )]
    PeerLost {
        /// This rank.
        rank: usize,
        /// What this rank called.
        operation: String,
        /// How long it had waited.
        elapsed: Duration,
        /// Which ranks do not answer any more, where that is known.
        silent: Silent,
        /// c10d's own words.
        message: String,
    },

    /// The group's timeout passed before all ranks had made the call. The group is closed.
    #[error(
        "rank {rank}: {operation}: not all ranks came within {timeout:?}{silent}; \
         look at what those ranks are doing, or use a longer timeout ({message})"
    )]
    TimedOut {
        /// This rank.
        rank: usize,
        /// What this rank called.
        operation: String,
        /// The group's timeout.
        timeout: Duration,
        /// Which ranks do not answer, where that is known.
        silent: Silent,
        /// c10d's own words.
        message: String,
    },

    /// The group was closed by an earlier error, which is repeated here.
    #[error("rank {rank}: {operation}: this process group is closed since an earlier error: {cause}")]
    Closed {
        /// This rank.
        rank: usize,
        /// What this rank called.
        operation: String,
        /// The earlier error.
        cause: String,
    },

    /// libtorch failed in local work around a collective (out of memory, say), on this rank only: the
    /// others may have had their result.
    #[error("{during}: {source}")]
    Torch {
        /// What was being done.
        during: String,
        /// libtorch's own words.
        source: tch::TchError,
    },

    /// `torch::autograd::grad` refused.
    #[error("torch::autograd::grad: {message}")]
    Autograd {
        /// What is wrong.
        message: String,
    },

    /// The state of a random generator could not be read or set.
    #[error("random generator of {device:?}: {message}")]
    Generator {
        /// The generator's device.
        device: tch::Device,
        /// What is wrong.
        message: String,
    },

    /// A store could not be hosted.
    #[error("cannot host a store on port {port} (0: any): {message}")]
    Store {
        /// The port asked for.
        port: u16,
        /// c10d's own words.
        message: String,
    },

    /// A rank could not be started.
    #[error("cannot start rank {rank} (`{program}`): {source}")]
    Spawn {
        /// The rank.
        rank: usize,
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },

    /// A started rank could not be waited for.
    #[error("cannot wait for rank {rank}: {source}")]
    Wait {
        /// The rank.
        rank: usize,
        /// Why.
        source: io::Error,
    },

    /// A rank ended with something else than success, the first one to do so.
    #[error("rank {rank} failed first: {status}; its own output has the reason")]
    RankFailed {
        /// The rank.
        rank: usize,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Ranks that were not heard of when a group failed. Displays as nothing where none is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silent(pub Vec<usize>);

impl Silent {
    pub(crate) fn from_present(present: &[bool]) -> Self {
        Self(present.iter().enumerate().filter(|(_, here)| !**here).map(|(rank, _)| rank).collect())
    }
}

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_slice() {
            [] => Ok(()),
            [rank] => write!(f, "; not heard of: rank {rank}"),
            ranks => {
                let names: Vec<_> = ranks.iter().map(usize::to_string).collect();
                write!(f, "; not heard of: ranks {}", names.join(", "))
            }
        }
    }
}
