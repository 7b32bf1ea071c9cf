//! What an evaluation lends to a probe.

use super::Evaluation;
use hessian_probe::{Gradient, Host, HostError, Precision, ProcessGroup, Shard};
use tch::{Kind, Tensor};

impl Host for Evaluation<'_> {
    /// In full precision, f32 copies of bf16 parameters. Empty where libtorch cannot make the views, which a probe
    /// reports as a layout that does not fit.
    fn shards(&self) -> Vec<Shard> {
        self.engine.parameters().live_shards().unwrap_or_else(|error| {
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

    fn compute_kind(&self) -> Option<Kind> {
        self.engine.policy().rounds_to()
    }

    fn set_precision(&mut self, precision: Precision) -> Result<(), HostError> {
        Ok(self.change_precision(precision)?)
    }

    /// Of f32 copies the bf16 parameters, which stay as they are beside them.
    fn sources(&self, precision: Precision) -> Vec<Tensor> {
        self.engine.sources(precision)
    }

    fn offers_exact_hvp(&self) -> bool {
        self.refuses_exact_hvp().is_none()
    }

    /// By differentiating the whole graph twice; on one rank, with plain attention.
    fn exact_hvp(&mut self, v: &[Tensor]) -> Result<Vec<Tensor>, HostError> {
        Ok(self.mean_hvp(v)?)
    }

    fn probe_tokens(&self) -> Option<u64> {
        (!self.batches.is_empty()).then_some(self.targets as u64)
    }
}
