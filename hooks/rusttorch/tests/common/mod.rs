//! What several tests need.

#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

#[path = "../../../c10d/tests/common/mod.rs"]
pub mod processes;

#[path = "../../../var_store/tests/common/basics.rs"]
mod basics;

pub use basics::{bits, flat, probe, snapshots_on};
use hessian_probe::ReduceOp;
use hessian_probe_c10d::ProcessGroup as Torchs;
use hessian_probe_rusttorch::SharedGroup;
use rusttorch::distributed::{GroupOptions, ProcessGroup, ShardedTrainer};
use rusttorch::optim::Optimizer;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Parameters of [`Model`].
pub const N: i64 = 23;
const EXAMPLES: i64 = 24;

pub type Parameters = BTreeMap<String, Tensor>;

/// The crate's own group; rank 0 says its port over the other one.
pub fn group(torchs: &Torchs, timeout: Duration) -> SharedGroup {
    let mut options = GroupOptions::new("test");
    options.timeout = timeout;
    group_with(torchs, options)
}

pub fn group_with(torchs: &Torchs, options: GroupOptions) -> SharedGroup {
    let (rank, world) = (torchs.rank(), torchs.world_size());
    let listener = (rank == 0).then(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    let mut port = [listener.as_ref().map_or(0.0, |own| f64::from(own.local_addr().unwrap().port()))];
    hessian_probe::ProcessGroup::all_reduce(torchs, &mut port, ReduceOp::Max).unwrap();
    let group = match listener {
        Some(listener) => ProcessGroup::accept(listener, world, options),
        None => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port[0] as u16));
            ProcessGroup::connect(address, rank, world, options)
        }
    };
    SharedGroup::new(group.unwrap())
}

/// This rank's chunks, padding included.
pub fn stored(trainer: &mut ShardedTrainer) -> Vec<(String, Vec<u8>)> {
    let own = trainer.optimizer_mut().named_parameters();
    own.into_iter().map(|(name, tensor)| (name, bits(&tensor))).collect()
}

/// A perceptron with 4 inputs, 3 hidden units and 2 outputs, and data that need not be fitted. No parameter but one divides
/// evenly by 2, and the third of 3 ranks owns nothing of `output.bias`.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub kind: Kind,
    pub dropout: f64,
}

impl Model {
    pub fn initial(self) -> Vec<(String, Tensor)> {
        let shapes: [(&str, &[i64]); 4] = [
            ("output.weight", &[2, 3]),
            ("layers.0.weight", &[3, 4]),
            ("output.bias", &[2]),
            ("layers.0.bias", &[3]),
        ];
        let tensors = shapes.iter().enumerate().map(|(seed, (name, shape))| {
            (name.to_string(), (waves(shape, seed as f64 + 1.0) * 0.8).to_kind(self.kind))
        });
        tensors.collect()
    }

    /// The mean over a rank's part of the examples.
    pub fn loss(self, p: &Parameters, rank: usize, ranks: usize) -> rusttorch::Result<Tensor> {
        let count = EXAMPLES / ranks as i64;
        let part = |tensor: Tensor| tensor.narrow(0, count * rank as i64, count).to_kind(self.kind);
        let (x, y) = (part(waves(&[EXAMPLES, 4], 11.0)), part(waves(&[EXAMPLES, 2], 17.0) * 2.0));
        let hidden = (x.matmul(&p["layers.0.weight"].tr()) + &p["layers.0.bias"]).tanh();
        let hidden = hidden.dropout(self.dropout, self.dropout > 0.0);
        let output = hidden.matmul(&p["output.weight"].tr()) + &p["output.bias"];
        Ok(output.f_mse_loss(&y, tch::Reduction::Mean)?)
    }

    pub fn trainer(
        self,
        group: &SharedGroup,
        build: fn(&VarStore) -> rusttorch::Result<Optimizer>,
    ) -> ShardedTrainer {
        ShardedTrainer::new(&mut group.borrow_mut(), self.initial(), build).unwrap()
    }

    /// At the initial parameters over all examples; parameters by name.
    pub fn dense_hessian(self) -> Tensor {
        let p: Parameters =
            self.initial().into_iter().map(|(name, tensor)| (name, tensor.set_requires_grad(true))).collect();
        basics::dense_hessian(&self.loss(&p, 0, 1).unwrap(), &p.values().collect::<Vec<_>>())
    }
}

/// Numbers between −1 and 1 without a pattern, and without a generator.
fn waves(shape: &[i64], seed: f64) -> Tensor {
    let index = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
    ((index * 2.399 + seed) * 1.618 * seed).sin().view(shape)
}
