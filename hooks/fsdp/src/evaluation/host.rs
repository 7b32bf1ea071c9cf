//! What an evaluation lends to a probe.

use super::Evaluation;
use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard};

impl Host for Evaluation<'_> {
    /// Empty where libtorch cannot make the views, which a probe reports as a layout that does not fit.
    fn shards(&self) -> Vec<Shard> {
        self.engine.parameters().shards().unwrap_or_else(|error| {
            log::error!("{error}");
            Vec::new()
        })
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        let (loss, tensors) = self.mean_gradient()?;
        Ok(Gradient { loss, tensors })
    }

    fn loss(&mut self) -> Result<f64, HostError> {
        Ok(self.mean_loss()?)
    }

    fn group(&self) -> &dyn ProcessGroup {
        self.group
    }

    fn probe_tokens(&self) -> Option<u64> {
        (!self.batches.is_empty()).then_some(self.targets as u64)
    }
}
