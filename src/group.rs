//! How ranks talk: the only communication that a probe does.

use std::error::Error as StdError;

/// What a collective does with the contributions of the ranks.
///
/// ```
/// use hessian_probe::{HostError, ProcessGroup, ReduceOp, SingleProcess};
///
/// /// The mean over ranks, and the largest.
/// fn over_ranks(group: &dyn ProcessGroup, value: f64) -> Result<(f64, f64), HostError> {
///     let (mut sum, mut largest) = ([value], [value]);
///     group.all_reduce(&mut sum, ReduceOp::Sum)?;
///     group.all_reduce(&mut largest, ReduceOp::Max)?;
///     Ok((sum[0] / group.world_size() as f64, largest[0]))
/// }
///
/// assert_eq!(over_ranks(&SingleProcess, 2.5)?, (2.5, 2.5));
/// # Ok::<(), HostError>(())
/// ```
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
///
/// ```
/// use hessian_probe::{HostError, ProcessGroup, ReduceOp};
/// use std::sync::{Arc, Barrier, Mutex};
///
/// /// Ranks that are threads of one process.
/// struct Thread {
///     rank: usize,
///     barrier: Arc<Barrier>,
///     contributions: Arc<Mutex<Vec<Vec<f64>>>>,
///     world_size: usize,
/// }
///
/// impl ProcessGroup for Thread {
///     fn rank(&self) -> usize {
///         self.rank
///     }
///     fn world_size(&self) -> usize {
///         self.world_size
///     }
///     fn all_reduce(&self, values: &mut [f64], op: ReduceOp) -> Result<(), HostError> {
///         self.contributions.lock().map_err(|_| "a rank panicked")?[self.rank] = values.to_vec();
///         self.barrier()?;
///         let contributions = self.contributions.lock().map_err(|_| "a rank panicked")?.clone();
///         for (index, value) in values.iter_mut().enumerate() {
///             // In the same order on every rank: the same bits.
///             let all = contributions.iter().map(|rank| rank[index]);
///             *value = match op {
///                 ReduceOp::Sum => all.sum(),
///                 ReduceOp::Max => all.fold(f64::NEG_INFINITY, f64::max),
///             };
///         }
///         self.barrier() // before anybody contributes to the next one
///     }
///     fn barrier(&self) -> Result<(), HostError> {
///         self.barrier.wait();
///         Ok(())
///     }
/// }
///
/// let (barrier, contributions) = (Arc::new(Barrier::new(2)), Arc::new(Mutex::new(vec![Vec::new(); 2])));
/// let ranks = [0, 1].map(|rank| {
///     let group = Thread { rank, barrier: barrier.clone(), contributions: contributions.clone(), world_size: 2 };
///     std::thread::spawn(move || {
///         let mut values = [rank as f64 + 1.0];
///         group.all_reduce(&mut values, ReduceOp::Sum).map(|()| values[0])
///     })
/// });
/// for rank in ranks {
///     assert_eq!(rank.join().unwrap()?, 3.0);
/// }
/// # Ok::<(), HostError>(())
/// ```
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
///
/// ```
/// use hessian_probe::{ProcessGroup, ReduceOp, SingleProcess};
///
/// let mut values = [1.0, 2.0];
/// SingleProcess.all_reduce(&mut values, ReduceOp::Sum)?;
/// assert_eq!((SingleProcess.rank(), SingleProcess.world_size(), values), (0, 1, [1.0, 2.0]));
/// # Ok::<(), hessian_probe::HostError>(())
/// ```
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
