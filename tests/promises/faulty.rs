//! The trainer as a host whose evaluations something happens to.

use crate::common::bits;
use hessian_probe::{
    Gradient, HessianProbe, Host, HostError, ProcessGroup, Progress, RandomState, Shard, Update,
};
use hessian_probe_fsdp::Trainer;
use std::ops::RangeInclusive;
use tch::Tensor;

type Hook<'t> = Box<dyn FnMut(u64, &mut Gradient) -> Result<(), HostError> + 't>;

/// The trainer, but for what `hook` does to its evaluations, by their number from 1: gradients, and forward passes, which
/// have no tensors.
pub struct Faulty<'t> {
    trainer: &'t mut Trainer,
    hook: Hook<'t>,
    calls: u64,
}

impl<'t> Faulty<'t> {
    pub fn new(
        trainer: &'t mut Trainer,
        hook: impl FnMut(u64, &mut Gradient) -> Result<(), HostError> + 't,
    ) -> Self {
        Self { trainer, hook: Box::new(hook), calls: 0 }
    }

    /// Gives the trainer back, and the number of evaluations.
    pub fn finish(self) -> u64 {
        self.calls
    }

    fn evaluated(&mut self, mut gradient: Gradient) -> Result<Gradient, HostError> {
        self.calls += 1;
        (self.hook)(self.calls, &mut gradient)?;
        Ok(gradient)
    }
}

impl Host for Faulty<'_> {
    fn shards(&self) -> Vec<Shard> {
        self.trainer.shards()
    }

    fn gradient(&mut self) -> Result<Gradient, HostError> {
        let gradient = self.trainer.gradient()?;
        self.evaluated(gradient)
    }

    fn loss(&mut self) -> Result<f64, HostError> {
        let loss = self.trainer.loss()?;
        Ok(self.evaluated(Gradient { loss, tensors: Vec::new() })?.loss)
    }

    fn group(&self) -> &dyn ProcessGroup {
        Host::group(self.trainer)
    }

    fn update(&mut self) -> Result<Option<Update>, HostError> {
        self.trainer.update()
    }

    fn training_loss(&self) -> Option<f64> {
        self.trainer.training_loss()
    }

    fn progress(&self) -> Progress {
        self.trainer.progress()
    }

    fn live_gradients(&self) -> Vec<Tensor> {
        self.trainer.live_gradients()
    }

    fn random_state(&mut self) -> Result<Option<RandomState>, HostError> {
        self.trainer.random_state()
    }

    fn set_random_state(&mut self, state: &RandomState) -> Result<(), HostError> {
        self.trainer.set_random_state(state)
    }
}

/// Parameters and random state, in bits.
pub fn state(trainer: &Trainer) -> (Vec<Vec<u64>>, Vec<u8>) {
    let parameters = trainer.named_shards().unwrap().iter().map(|shard| bits(&shard.tensor)).collect();
    (parameters, trainer.generator_state().unwrap())
}

/// The numbers of the gradients of a probe that belong to its products: those before are for θ itself and the noise.
pub fn products(trainer: &mut Trainer, mut probe: HessianProbe) -> RangeInclusive<u64> {
    let cost = &probe.probe(0, trainer).unwrap().cost;
    cost.calibration_gradients + 2..=cost.gradients
}
