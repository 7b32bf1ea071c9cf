//! What several tests need.

#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

#[path = "../../../c10d/tests/common/mod.rs"]
pub mod processes;

mod basics;

pub use basics::{bits, flat, probe, snapshots_on};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Reduction, Tensor};

/// Torch's generator is the process's: tests that draw from it take turns.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    tch::set_num_threads(1);
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All variables of a store, by name.
pub fn stored(vs: &VarStore) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = vs.variables().iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect();
    all.sort();
    all
}

/// A perceptron with 4 inputs, 4 hidden units and 2 outputs, and data that need not be fitted: 30 parameters.
pub struct Perceptron {
    pub vs: VarStore,
    pub net: nn::Sequential,
    pub x: Tensor,
    pub y: Tensor,
}

impl Perceptron {
    pub fn new(kind: Kind) -> Self {
        tch::manual_seed(11);
        let mut vs = VarStore::new(Device::Cpu);
        let hidden = nn::linear(vs.root() / "layers" / 0 / "dense", 4, 4, Default::default());
        let output = nn::linear(vs.root() / "layers" / 1 / "dense", 4, 2, Default::default());
        let net = nn::seq().add(hidden).add_fn(|x| x.tanh()).add(output);
        let options = (Kind::Double, Device::Cpu);
        let (x, y) = (Tensor::randn([32, 4], options), Tensor::randn([32, 2], options));
        match kind {
            Kind::Double => vs.double(),
            Kind::BFloat16 => vs.bfloat16(),
            _ => {}
        }
        Self { vs, net, x: x.to_kind(kind), y: y.to_kind(kind) }
    }

    pub fn loss(&self) -> Tensor {
        self.loss_of(0, 32)
    }

    /// The mean over some examples.
    pub fn loss_of(&self, start: i64, count: i64) -> Tensor {
        let (x, y) = (self.x.narrow(0, start, count), self.y.narrow(0, start, count));
        self.net.forward(&x).mse_loss(&y, Reduction::Mean)
    }

    /// The parameters in the order in which a host lends them.
    pub fn parameters(&self) -> Vec<Tensor> {
        let variables = self.vs.variables();
        let names =
            ["layers.0.dense.bias", "layers.0.dense.weight", "layers.1.dense.bias", "layers.1.dense.weight"];
        names.iter().map(|name| variables[*name].shallow_clone()).collect()
    }

    pub fn dense_hessian(&self) -> Tensor {
        basics::dense_hessian(&self.loss(), &self.parameters())
    }
}

/// ‖a − b‖ ÷ ‖b‖.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    ((&a - &b).norm() / b.norm()).double_value(&[])
}
