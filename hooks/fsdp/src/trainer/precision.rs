//! The precision that a probe asks for, and training's own.

use super::Trainer;
use crate::error::Result;
use hessian_probe::Precision;

impl Trainer {
    /// Passes and [`Host::shards`](hessian_probe::Host::shards) are in `precision` from now on.
    pub(super) fn change_precision(&mut self, precision: Precision) -> Result<()> {
        if precision != self.engine.precision() {
            self.engine.set_precision(precision)?;
            // Of the kind that is no longer needed.
            if let Some(probe) = &mut self.probe {
                probe.free_spare();
            }
        }
        Ok(())
    }

    /// Whatever a callback left behind, training goes on as configured.
    pub(super) fn train_in_own_precision(&mut self) -> Result<()> {
        if self.engine.precision() != Precision::Loop {
            log::warn!(
                "rank {}: step {}: a callback left the trainer in full precision; it goes back to its own",
                self.group.rank(),
                self.step
            );
        }
        self.change_precision(Precision::Loop)
    }
}
