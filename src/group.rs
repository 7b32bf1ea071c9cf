//! How ranks talk: the only communication that a probe does.

use std::error::Error as StdError;

/// What a collective does with the contributions of the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    /// The sum over ranks.
    Sum,
    /// The largest value over ranks.
    Max,
}

/// An error of the host or of its transport, with whatever context it has to give.
pub type HostError = Box<dyn StdError + Send + Sync + 'static>;

/// The ranks that share one model.
///
/// A probe sends nothing but a few `f64` at a time. Every method is collective: all ranks call it in
/// the same order with slices of the same length, and **every rank receives the same bits**, since
/// all decisions of a probe (the next step size, breakdown, skipping) are taken from reduced values.
pub trait ProcessGroup {
    /// This rank, `0 ≤ rank < world_size`.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn world_size(&self) -> usize;

    /// Replaces `values` by their elementwise reduction over all ranks.
    ///
    /// # Errors
    /// When a peer is lost or the group's timeout passes; `values` is then unspecified and the group
    /// is not used again by the probe.
    fn all_reduce(&self, values: &mut [f64], op: ReduceOp) -> Result<(), HostError>;

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    fn barrier(&self) -> Result<(), HostError>;
}

/// The group of a loop that runs in one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl ProcessGroup for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_reduce(&self, _values: &mut [f64], _op: ReduceOp) -> Result<(), HostError> {
        Ok(())
    }

    fn barrier(&self) -> Result<(), HostError> {
        Ok(())
    }
}
