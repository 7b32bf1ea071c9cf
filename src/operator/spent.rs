//! What an operator has spent, while it works and in the end.

use crate::cost::clock::{Moment, Region};
use crate::error::Result;
use crate::operator::finite_difference::FiniteDifference;
use std::time::{Duration, Instant};

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

    /// Restores θ₀ and everything else; returns what the products cost: gradients, seconds in them,
    /// and the reductions of this operator.
    pub(crate) fn finish(mut self) -> Result<Spent> {
        let mut spent = Spent {
            gradients: self.guard.gradients,
            gradient_seconds: self.guard.gradient_time.as_secs_f64(),
            all_reduces: self.ranks.all_reduces,
            reduced_values: self.ranks.values,
            communication_seconds: self.ranks.seconds.as_secs_f64(),
            vector_bytes: self.guard.bytes() + 2 * self.layout.vector_bytes(),
            noise: self.noise,
            products: self.product_time,
            saving: self.saving_time,
            calibrating: self.calibrating,
        };
        self.pending = None;
        let started = Instant::now();
        self.guard.restore()?;
        spent.saving += started.elapsed();
        Ok(spent)
    }
}
