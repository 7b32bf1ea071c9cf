//! What the trainer lends to a probe.

use super::Trainer;
use hessian_probe::{
    Gradient, Host, HostError, Optimizer, Precision, ProcessGroup, Progress, RandomState, Shard, Update,
};
use tch::{Kind, Tensor};

impl Host for Trainer {
    /// In full precision, f32 copies of bf16 parameters. Empty where libtorch cannot make the views, which a probe
    /// reports as a layout that does not fit.
    fn shards(&self) -> Vec<Shard> {
        self.engine.parameters().live_shards().unwrap_or_else(|error| {
            log::error!("{error}");
            Vec::new()
        })
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        let (loss, tensors) = self.probe_gradient()?;
        Ok(Gradient { loss, tensors })
    }

    fn loss(&mut self) -> Result<f64, HostError> {
        Ok(self.probe_loss()?)
    }

    fn group(&self) -> &dyn ProcessGroup {
        &self.group
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
        Ok(self.probe_hvp(v)?)
    }

    fn probe_tokens(&self) -> Option<u64> {
        self.probe.as_ref().map(super::Probe::targets)
    }

    /// AdamW with the learning rate of the coming step, and the second moments as they are kept.
    fn optimizer(&self) -> Result<Option<Optimizer>, HostError> {
        Ok(Some(self.lent_optimizer()?))
    }

    /// From the moments: of the last step they tell it to their rounding.
    fn update(&mut self) -> Result<Option<Update>, HostError> {
        Ok(self.lent_update()?)
    }

    /// The mean over all ranks and micro-batches.
    fn training_loss(&self) -> Option<f64> {
        self.loss
    }

    fn progress(&self) -> Progress {
        Progress { total_steps: self.total_steps, tokens: Some(self.tokens) }
    }

    /// The gradient that the optimizer has not used yet, between the backward pass and the step; empty
    /// otherwise. [`gradient`](Host::gradient) leaves it alone: it then works in buffers of its own.
    fn live_gradients(&self) -> Vec<Tensor> {
        if self.pending.is_none() {
            return Vec::new();
        }
        self.gradients.per_parameter(self.engine.parameters().layouts(), self.group.rank()).unwrap_or_else(
            |error| {
                log::error!("{error}");
                Vec::new()
            },
        )
    }

    fn random_state(&mut self) -> Result<Option<RandomState>, HostError> {
        Ok(Some(RandomState(vec![self.generator_state()?])))
    }

    fn set_random_state(&mut self, state: &RandomState) -> Result<(), HostError> {
        match &state.0[..] {
            [state] => Ok(self.set_generator_state(state)?),
            other => {
                Err(format!("a random state of {} generators, not of this trainer's one", other.len()).into())
            }
        }
    }
}
