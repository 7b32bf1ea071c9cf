//! Gradient descent on handwritten digits, all of them in every step: a small smooth network in a `VarStore`, libtorch's own
//! optimizer.

use crate::Result;
use hessian_probe::{Callback, HessianProbe, Optimizer, OptimizerKind};
use hessian_probe_var_store::VarStoreHost;
use tch::nn::{self, Module, OptimizerConfig, VarStore};
use tch::{Device, Kind, Tensor};

/// The first ones of the set.
const IMAGES: i64 = 1000;
const PIXELS: i64 = 64;
const CLASSES: i64 = 10;
const WIDTH: i64 = 32;

/// A run.
#[derive(Debug)]
pub struct Descent {
    pub learning_rate: f64,
    pub steps: u64,
}

impl Descent {
    /// Trains under the probe's eyes.
    ///
    /// # Errors
    /// The probe's.
    pub fn train(&self, probe: &mut HessianProbe) -> Result<()> {
        let (images, targets) = digits();
        tch::manual_seed(0);
        let mut vs = VarStore::new(Device::Cpu);
        let layer = |number: i64, from, to| nn::linear(vs.root() / "layers" / number, from, to, Default::default());
        let net = nn::seq()
            .add(layer(0, PIXELS, WIDTH))
            .add_fn(Tensor::tanh)
            .add(layer(1, WIDTH, WIDTH))
            .add_fn(Tensor::tanh)
            .add(layer(2, WIDTH, CLASSES));
        vs.double();
        // Half the squared distance: its Hessian has no factor 2.
        let loss = || (net.forward(&images) - &targets).square().sum(Kind::Double) / (2 * IMAGES) as f64;
        let mut optimizer = nn::Sgd::default().build(&vs, self.learning_rate)?;
        let mut host = VarStoreHost::new(&vs, loss)?.targets(IMAGES as u64);
        host.set_optimizer(Optimizer {
            kind: OptimizerKind::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false },
            learning_rate: self.learning_rate,
            weight_decay: Vec::new(),
            steps: 0,
            second_moments: Vec::new(),
        });
        probe.on_train_begin(&mut host)?;
        for step in 0..self.steps {
            optimizer.backward_step(&loss());
            probe.on_step_end(step, &mut host)?;
        }
        probe.on_train_end(&mut host)?;
        Ok(())
    }
}

/// Images with the mean image taken off, and a 1 at each one's digit.
fn digits() -> (Tensor, Tensor) {
    let data = smartcore::dataset::digits::load_dataset();
    let images = Tensor::from_slice(&data.data).view([-1, PIXELS]).narrow(0, 0, IMAGES).to_kind(Kind::Double) / 16.0;
    let mean = images.mean_dim([0].as_slice(), true, Kind::Double);
    let labels = Tensor::from_slice(&data.target).narrow(0, 0, IMAGES).to_kind(Kind::Int64);
    (images - mean, labels.one_hot(CLASSES).to_kind(Kind::Double))
}
