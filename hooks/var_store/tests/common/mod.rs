//! What several tests need.

#![allow(dead_code)]

#[path = "../../../c10d/tests/common/mod.rs"]
pub mod processes;

use hessian_probe::{HessianProbe, ProbeConfig};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Reduction, Tensor};

/// Torch's generator is the process's: tests that draw from it take turns.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    tch::set_num_threads(1);
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A probe without logs.
pub fn probe(toml: &str) -> HessianProbe {
    let toml = format!("{toml}\n[log]\ntensorboard = false\njsonl = false");
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

/// The bytes of a tensor.
pub fn bits(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
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

    /// H by tch's own double backward, row by row.
    pub fn dense_hessian(&self) -> Tensor {
        let parameters = self.parameters();
        let gradient = flat(&Tensor::run_backward(&[self.loss()], &parameters, true, true));
        let row = |i| {
            let rows = Tensor::run_backward(&[gradient.get(i)], &parameters, true, false);
            let rows = rows.into_iter().zip(&parameters);
            // Where an entry does not depend on a parameter there is no tensor.
            flat(&rows.map(|(row, p)| if row.defined() { row } else { p.zeros_like() }).collect::<Vec<_>>())
        };
        Tensor::stack(&(0..gradient.numel() as i64).map(row).collect::<Vec<_>>(), 0).detach()
    }
}

pub fn flat(tensors: &[Tensor]) -> Tensor {
    Tensor::cat(&tensors.iter().map(|tensor| tensor.reshape([-1])).collect::<Vec<_>>(), 0)
}

/// ‖a − b‖ ÷ ‖b‖.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    ((&a - &b).norm() / b.norm()).double_value(&[])
}
