//! Exact products with the Hessian of the probe loss.

use super::Trainer;
use crate::error::{Error, Result};
use crate::model::Attention;
use crate::sharding::GradientShards;
use tch::Tensor;

impl Trainer {
    /// Why there are no exact products, and what to set for them; `None` where there are.
    pub(super) fn refuses_exact_hvp(&self) -> Option<String> {
        let ranks = self.group.world_size();
        if ranks > 1 {
            return Some(format!(
                "the model is sharded over {ranks} ranks, and backward over backward needs the graph of the whole \
                 model on one. Run on 1 rank, or use differences of gradients"
            ));
        }
        (self.config.model.attention == Attention::Sdpa).then(|| {
            "libtorch's fused attention has no second derivative. Set `model.attention = \"plain\"`, or use differences \
             of gradients"
                .into()
        })
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
        let layouts = self.engine.parameters().layouts();
        let (kind, device) = (self.engine.policy().parameters, self.engine.model().device());
        let mut products = GradientShards::new(layouts, rank, kind, device)?;
        for batch in &probe.batches {
            let scale = 1.0 / probe.targets;
            self.engine.accumulate_hvp(&self.group, batch, scale, probe.dropout, v, &mut products)?;
        }
        products.per_parameter(layouts, rank)
    }
}
