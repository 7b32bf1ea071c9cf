//! Sums over ranks that also carry failures, so that no rank waits for one that gave up.

use crate::error::{Error, Result};
use crate::group::ReduceOp;
use crate::host::Host;
use std::time::{Duration, Instant};

/// What an interrupted rank puts in the slot for failures: more than there are ranks, and exact in sums.
const INTERRUPTED: f64 = 1e9;

/// The probe's view of the group: counts what it sends, and turns one rank's failure into an error
/// on all of them.
///
/// Every [`sum`](Self::sum) has one more slot than its values, in which a rank that failed puts 1. When
/// the slot's sum is not 0, a second reduction finds the lowest failed rank and every rank returns an error.
/// An interruption is no failure: it has a value of its own there, and is the same error on all ranks.
#[derive(Debug)]
pub(crate) struct Ranks {
    rank: usize,
    world_size: usize,
    pub(crate) all_reduces: u64,
    pub(crate) values: u64,
    pub(crate) seconds: Duration,
}

impl Ranks {
    pub(crate) fn new(host: &dyn Host) -> Self {
        let group = host.group();
        Self {
            rank: group.rank(),
            world_size: group.world_size(),
            all_reduces: 0,
            values: 0,
            seconds: Duration::ZERO,
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn world_size(&self) -> usize {
        self.world_size
    }

    fn all_reduce(
        &mut self,
        host: &dyn Host,
        during: &'static str,
        values: &mut [f64],
        op: ReduceOp,
    ) -> Result<()> {
        let started = Instant::now();
        let reduced = host.group().all_reduce(values, op);
        self.seconds += started.elapsed();
        self.all_reduces += 1;
        self.values += values.len() as u64;
        reduced.map_err(|source| Error::Communication { rank: self.rank, during, source })
    }

    /// The sum of `local` over ranks. A rank that has no values because it failed passes its error:
    /// it gets it back, the others get [`Error::Peer`].
    pub(crate) fn sum(
        &mut self,
        host: &dyn Host,
        during: &'static str,
        len: usize,
        local: Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        let (mut values, failure) = match local {
            Ok(values) => (values, None),
            Err(error) => (vec![0.0; len], Some(error)),
        };
        debug_assert_eq!(values.len(), len, "{during}");
        values.push(match &failure {
            None => 0.0,
            Some(error) if error.is_interruption() => INTERRUPTED,
            Some(_) => 1.0,
        });
        if let Err(lost) = self.all_reduce(host, during, &mut values, ReduceOp::Sum) {
            // The rank's own failure, of its gradient's collectives as a rule, explains more than the
            // one that failed after it; but the group is lost all the same.
            return Err(failure.map_or(lost, |source| Error::Communication {
                rank: self.rank,
                during,
                source: Box::new(source),
            }));
        }
        let failed = values.pop().unwrap_or(0.0);
        if failed == 0.0 {
            return Ok(values);
        }
        if failed >= INTERRUPTED {
            // Also where this rank has failed: all must do the same next, and the others stop.
            if let Some(error) = failure.filter(|error| !error.is_interruption()) {
                log::warn!("{error}");
            }
            return Err(Error::Interrupted { rank: self.rank });
        }
        let mut lowest = [if failure.is_some() { -(self.rank as f64) } else { f64::NEG_INFINITY }];
        let found = self.all_reduce(host, during, &mut lowest, ReduceOp::Max);
        match (failure, found) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Error::Peer { rank: self.rank, failed: -lowest[0] as usize, during }),
        }
    }

    /// The largest of each value over ranks.
    pub(crate) fn max(&mut self, host: &dyn Host, during: &'static str, local: &[f64]) -> Result<Vec<f64>> {
        let mut values = local.to_vec();
        self.all_reduce(host, during, &mut values, ReduceOp::Max)?;
        Ok(values)
    }

    /// Whether `value` is not the same on all ranks.
    pub(crate) fn differs(&mut self, host: &dyn Host, during: &'static str, value: f64) -> Result<bool> {
        let bounds = self.max(host, during, &[value, -value])?;
        Ok(bounds[0] != -bounds[1])
    }

    /// Lets all ranks know whether one of them failed.
    pub(crate) fn agree<T>(&mut self, host: &dyn Host, during: &'static str, local: Result<T>) -> Result<T> {
        match local {
            Ok(value) => self.sum(host, during, 0, Ok(Vec::new())).map(|_| value),
            Err(error) => {
                let reported = self.sum(host, during, 0, Err(error));
                Err(reported.err().unwrap_or(Error::Peer { rank: self.rank, failed: self.rank, during }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{HostError, ProcessGroup};
    use crate::host::{Gradient, Shard};

    /// Rank 0 of two, whose peer puts this into the slot for failures.
    struct Peer(f64);

    impl ProcessGroup for Peer {
        fn rank(&self) -> usize {
            0
        }

        fn world_size(&self) -> usize {
            2
        }

        fn all_reduce(&self, values: &mut [f64], op: ReduceOp) -> Result<(), HostError> {
            if let (Some(slot), ReduceOp::Sum) = (values.last_mut(), op) {
                *slot += self.0;
            }
            Ok(())
        }

        fn barrier(&self) -> Result<(), HostError> {
            Ok(())
        }
    }

    impl Host for Peer {
        fn shards(&self) -> Vec<Shard> {
            Vec::new()
        }

        fn gradient(&mut self) -> Result<Gradient, HostError> {
            Err("not called".into())
        }

        fn group(&self) -> &dyn ProcessGroup {
            self
        }
    }

    #[test]
    fn an_interruption_is_that_of_all_ranks_also_of_one_that_failed_at_the_same_time() {
        let failure = || Error::NonFinite { rank: 0, what: "the loss", during: "a test" };
        let interruption = || Error::Interrupted { rank: 0 };
        for (peer, local, interrupted) in [
            (INTERRUPTED, Ok(vec![1.0]), true),
            (INTERRUPTED, Err(failure()), true),
            (INTERRUPTED, Err(interruption()), true),
            (1.0, Err(interruption()), true),
            (0.0, Err(interruption()), true),
            (1.0, Err(failure()), false),
            (1.0, Ok(vec![1.0]), false),
        ] {
            let host = Peer(peer);
            let shown = format!("{local:?} here, {peer} there");
            let error = Ranks::new(&host).sum(&host, "a test", 1, local).unwrap_err();
            assert_eq!(error.is_interruption(), interrupted, "{shown}: {error}");
        }
    }
}
