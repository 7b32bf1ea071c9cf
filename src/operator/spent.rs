//! What an operator has spent, while it works and in the end.

use crate::cost::clock::{Moment, Region};
use crate::error::Result;
use crate::operator::finite_difference::FiniteDifference;
use std::time::{Duration, Instant};

const RESTORING: &str = "putting back what the host lent";

/// What the products of a snapshot cost on this rank.
pub(crate) struct Spent {
    pub(crate) gradients: u64,
    pub(crate) gradient_seconds: f64,
    pub(crate) all_reduces: u64,
    pub(crate) reduced_values: u64,
    pub(crate) communication_seconds: f64,
    pub(crate) vector_bytes: u64,
    pub(crate) noise: f64,
    pub(crate) products: Duration,
    pub(crate) saving: Duration,
    pub(crate) calibrating: Region,
}

impl FiniteDifference<'_, '_> {
    /// Now, and what this operator has spent so far.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            at: Instant::now(),
            gradients: self.guard.gradient_time,
            all_reduces: self.ranks.seconds,
            products: self.product_time,
        }
    }

    /// Adds the time since `from` that this operator's own parts do not have. Returns the present moment.
    pub(crate) fn lap(&self, from: Moment, spent: &mut Duration) -> Moment {
        let now = self.moment();
        *spent += from.own_until(now);
        now
    }

    /// Restores θ₀ and everything else. Where one rank cannot, or has a failure that no sum has carried yet, that is an
    /// error on all: none goes on with a measurement that another one does not have. Returns what the products cost
    /// (gradients, seconds in them, and the reductions of this operator), and the sums over ranks of `values`, which
    /// travel in the same all_reduce. Collective.
    pub(crate) fn finish_with(mut self, during: &'static str, values: Vec<f64>) -> Result<(Spent, Vec<f64>)> {
        let vector_bytes = self.guard.bytes() + 2 * self.layout.vector_bytes();
        let started = Instant::now();
        let restored = self.guard.put_back();
        let saving = self.saving_time + started.elapsed();
        let len = values.len();
        let local = restored.and(self.pending.take().map_or(Ok(values), Err));
        let sums = self.ranks.sum(self.guard.host(), during, len, local)?;
        let spent = Spent {
            gradients: self.guard.gradients,
            gradient_seconds: self.guard.gradient_time.as_secs_f64(),
            all_reduces: self.ranks.all_reduces,
            reduced_values: self.ranks.values,
            communication_seconds: self.ranks.seconds.as_secs_f64(),
            vector_bytes,
            noise: self.noise,
            products: self.product_time,
            saving,
            calibrating: self.calibrating,
        };
        Ok((spent, sums))
    }

    /// The same without values.
    pub(crate) fn finish(self) -> Result<Spent> {
        Ok(self.finish_with(RESTORING, Vec::new())?.0)
    }
}
