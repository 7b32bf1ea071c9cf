//! Gradient descent on handwritten digits, all of them in every step: a small smooth network in a `VarStore`, libtorch's own
//! optimizer.

use crate::Result;
use hessian_probe::{Callback, HessianProbe, Optimizer, OptimizerKind, Update};
use hessian_probe_var_store::VarStoreHost;
use tch::nn::{self, Module, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};

/// The first ones of the set.
const IMAGES: i64 = 1000;
const PIXELS: i64 = 64;
const CLASSES: i64 = 10;
const WIDTH: i64 = 32;

const RULE: OptimizerKind = OptimizerKind::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false };

/// A run.
#[derive(Clone, Debug)]
pub struct Descent {
    pub rate: Rate,
    pub steps: u64,
    pub seed: u64,
}

/// The learning rate: `first` until step `rise.start`, then linearly up to `last`, which it has from `rise.end` on.
#[derive(Clone, Debug)]
pub struct Rate {
    pub first: f64,
    pub last: f64,
    pub rise: std::ops::Range<u64>,
}

impl Rate {
    /// It never changes.
    pub const fn constant(rate: f64) -> Self {
        Self { first: rate, last: rate, rise: 0..1 }
    }

    /// That of a step.
    fn at(&self, step: u64) -> f64 {
        let risen = step.saturating_sub(self.rise.start) as f64 / (self.rise.end - self.rise.start) as f64;
        self.first + (self.last - self.first) * risen.min(1.0)
    }
}

impl Descent {
    /// Trains under the eyes of `probes`.
    ///
    /// # Errors
    /// The probes'.
    pub fn train(&self, probes: &mut [&mut HessianProbe]) -> Result<()> {
        // Products of small matrices are no faster on several, and sums depend on it in their last bits.
        tch::set_num_threads(1);
        tch::manual_seed(self.seed.cast_signed());
        let (images, targets) = digits();
        let mut vs = VarStore::new(Device::Cpu);
        let root = vs.root();
        let layer =
            |number: i64, from, to| nn::linear(&root / "layers" / number, from, to, Default::default());
        let net = nn::seq()
            .add(layer(0, PIXELS, WIDTH))
            .add_fn(Tensor::tanh)
            .add(layer(1, WIDTH, WIDTH))
            .add_fn(Tensor::tanh)
            .add(layer(2, WIDTH, CLASSES));
        vs.double();
        // Half the squared distance: its Hessian has no factor 2.
        let loss = || (net.forward(&images) - &targets).square().sum(Kind::Double) / (2 * IMAGES) as f64;
        let mut optimizer = nn::Sgd::default().build(&vs, self.rate.at(0))?;
        let mut host = VarStoreHost::new(&vs, loss)?.targets(IMAGES as u64);
        host.set_optimizer(descent(self.rate.at(0)));
        let mut coming = loss();
        coming.backward();
        for probe in probes.iter_mut() {
            probe.on_train_begin(&mut host)?;
        }
        for step in 0..self.steps {
            optimizer.set_lr(self.rate.at(step));
            optimizer.step();
            host.set_training_loss(coming.double_value(&[]));
            // The next step's gradient now: a probe then knows the coming update.
            optimizer.zero_grad();
            coming = loss();
            coming.backward();
            let rate = self.rate.at(step + 1);
            host.set_optimizer(descent(rate));
            host.set_update(update(&vs, rate));
            for probe in probes.iter_mut() {
                probe.on_step_end(step, &mut host)?;
            }
        }
        for probe in probes.iter_mut() {
            probe.on_train_end(&mut host)?;
        }
        Ok(())
    }
}

fn descent(learning_rate: f64) -> Optimizer {
    Optimizer { kind: RULE, learning_rate, weight_decay: Vec::new(), steps: 0, second_moments: Vec::new() }
}

/// −η∇L, in the order of names, which is that of the host's shards.
fn update(vs: &VarStore, rate: f64) -> Update {
    let mut named: Vec<_> = vs.variables().into_iter().collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    Update { tensors: named.iter().map(|(_, parameter)| parameter.grad() * -rate).collect(), coming: true }
}

/// Images with the mean image taken off, and a 1 at each one's digit.
fn digits() -> (Tensor, Tensor) {
    let data = smartcore::dataset::digits::load_dataset();
    let images = Tensor::from_slice(&data.data).view([-1, PIXELS]).narrow(0, 0, IMAGES);
    let images = images.to_kind(Kind::Double) / 16.0;
    let mean = images.mean_dim([0].as_slice(), true, Kind::Double);
    let labels = Tensor::from_slice(&data.target).narrow(0, 0, IMAGES).to_kind(Kind::Int64);
    (images - mean, labels.one_hot(CLASSES).to_kind(Kind::Double))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_rises_from_its_first_to_its_last_value() {
        let rate = Rate { first: 0.1, last: 0.3, rise: 10..20 };
        for (step, expected) in [(0, 0.1), (10, 0.1), (15, 0.2), (20, 0.3), (99, 0.3)] {
            assert!((rate.at(step) - expected).abs() < 1e-12, "step {step}");
        }
        assert_eq!([0, 1, 7].map(|step| Rate::constant(0.5).at(step)), [0.5; 3]);
    }
}
