//! Exact products with the Hessian of the mean loss.

use super::Evaluation;
use crate::error::{Error, Result};
use tch::Tensor;

impl Evaluation<'_> {
    /// Why [`mean_hvp`](Self::mean_hvp) is refused, and what to set for it; `None` where it is not.
    #[must_use]
    pub fn refuses_exact_hvp(&self) -> Option<String> {
        self.engine
            .refuses_exact_hvp(self.group.world_size(), "`EvaluationConfig::attention` to `Attention::Plain`")
    }

    /// `Hv` of the mean loss by differentiating twice, for `v` aligned with
    /// [`Host::shards`](hessian_probe::Host::shards): one tensor for each. The graph of a micro-batch spans the whole
    /// model.
    ///
    /// # Errors
    /// [`NoExactHvp`](Error::NoExactHvp) on several ranks or with fused attention;
    /// [`NoProbeBatch`](Error::NoProbeBatch), [`Torch`](Error::Torch) also where `v` does not fit,
    /// [`Autograd`](Error::Autograd).
    pub fn mean_hvp(&self, v: &[Tensor]) -> Result<Vec<Tensor>> {
        if let Some(reason) = self.refuses_exact_hvp() {
            return Err(Error::NoExactHvp { rank: self.group.rank(), reason });
        }
        self.has_data()?;
        self.engine.mean_hvp(self.group, &self.batches, self.targets, false, v)
    }
}
