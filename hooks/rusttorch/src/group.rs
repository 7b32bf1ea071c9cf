//! The crate's process group, shared between a loop and a probe.

use crate::error::{Error, Result};
use hessian_probe::{HostError, ReduceOp};
use rusttorch::distributed::{ProcessGroup, ReduceOp as Reduction};
use std::cell::{RefCell, RefMut};
use tch::Tensor;

/// A [`ProcessGroup`] that a loop and a probe take turns with: the collectives of `rusttorch` want the group mutably.
///
/// The loop borrows it for each of its own calls, `trainer.train_step(&mut group.borrow_mut(), …)`, and must not hold it
/// while a probe runs. It is also a [`hessian_probe::ProcessGroup`]: a loop on `DistributedDataParallel` gives it to a
/// `VarStoreHost` of `hessian-probe-var-store`.
///
/// ```
/// use hessian_probe::{ProcessGroup as _, ReduceOp};
/// use hessian_probe_rusttorch::SharedGroup;
/// use rusttorch::distributed::{GroupOptions, ProcessGroup};
/// use std::net::TcpListener;
///
/// // A group of one; with more, the others `connect` to this address.
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let group = SharedGroup::new(ProcessGroup::accept(listener, 1, GroupOptions::new("doc"))?);
/// group.borrow_mut().barrier()?; // a call of the loop's
/// let mut values = [2.5]; // what a probe does
/// group.all_reduce(&mut values, ReduceOp::Sum).map_err(|error| error.to_string())?;
/// assert_eq!(values, [2.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedGroup {
    group: RefCell<ProcessGroup>,
    rank: usize,
    world_size: usize,
}

impl SharedGroup {
    /// The group of this rank.
    #[must_use]
    pub fn new(group: ProcessGroup) -> Self {
        let (rank, world_size) = (group.rank(), group.world_size());
        Self { group: RefCell::new(group), rank, world_size }
    }

    /// The group, for one of the loop's own calls.
    ///
    /// # Panics
    /// Where it is borrowed already.
    pub fn borrow_mut(&self) -> RefMut<'_, ProcessGroup> {
        self.group.borrow_mut()
    }

    /// The group by itself again.
    #[must_use]
    pub fn into_inner(self) -> ProcessGroup {
        self.group.into_inner()
    }

    /// One call of the crate's.
    pub(crate) fn call<T>(
        &self,
        during: &'static str,
        call: impl FnOnce(&mut ProcessGroup) -> rusttorch::Result<T>,
    ) -> Result<T> {
        let rank = self.rank;
        let mut group = self.group.try_borrow_mut().map_err(|_| Error::GroupInUse { rank })?;
        call(&mut group).map_err(|source| Error::Collective { during, rank, source })
    }

    /// How many `f64` fit into one all_reduce: rank 0 holds everybody's contribution once for each rank, within the limit on
    /// messages, and a message writes each byte as up to four characters.
    fn piece(&self, limit: usize) -> usize {
        const HEADERS: usize = 512;
        let held = (limit / self.world_size.pow(2)).saturating_sub(HEADERS) / size_of::<f64>();
        let written = limit.saturating_sub(HEADERS) / (4 * size_of::<f64>());
        held.min(written).max(1)
    }
}

impl hessian_probe::ProcessGroup for SharedGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn all_reduce(&self, values: &mut [f64], op: ReduceOp) -> Result<(), HostError> {
        let op = match op {
            ReduceOp::Sum => Reduction::Sum,
            ReduceOp::Max => Reduction::Max,
        };
        let reduced = self.call("all_reduce", |group| {
            let piece = self.piece(group.max_message_bytes());
            for values in values.chunks_mut(piece) {
                let count = values.len();
                group.all_reduce(&Tensor::f_from_slice(values)?, op)?.f_copy_data(values, count)?;
            }
            Ok(())
        });
        Ok(reduced?)
    }

    fn barrier(&self) -> Result<(), HostError> {
        Ok(self.call("barrier", ProcessGroup::barrier)?)
    }
}
