//! Exact products with the Hessian of the probe loss.

use super::Trainer;
use crate::error::{Error, Result};
use tch::Tensor;

impl Trainer {
    /// Why there are no exact products, and what to set for them; `None` where there are.
    pub(super) fn refuses_exact_hvp(&self) -> Option<String> {
        self.engine.refuses_exact_hvp(self.group.world_size(), "`model.attention = \"plain\"`")
    }

    /// `Hv` of the mean loss of the probe batch, for `v` aligned with what [`Host::shards`](hessian_probe::Host::shards)
    /// returns, in buffers of its own. Drops out what the gradient at the generator's present state does, and
    /// leaves that state as it was.
    pub(super) fn probe_hvp(&mut self, v: &[Tensor]) -> Result<Vec<Tensor>> {
        let rank = self.group.rank();
        if let Some(reason) = self.refuses_exact_hvp() {
            return Err(Error::NoExactHvp { rank, reason });
        }
        let state = self.generator_state()?;
        let products = self.accumulate_probe_hvp(v);
        self.set_generator_state(&state)?;
        products
    }

    fn accumulate_probe_hvp(&self, v: &[Tensor]) -> Result<Vec<Tensor>> {
        let rank = self.group.rank();
        let Some(probe) = &self.probe else { return Err(Error::NoProbeBatch { rank }) };
        self.engine.mean_hvp(&self.group, &probe.batches, probe.targets, probe.dropout, v)
    }
}
