//! A training with probes is, bit for bit, the training without.

mod common;

use common::processes::{TIMEOUT, on_ranks};
use common::{Model, group, probe};
use hessian_probe::{Callback, ProcessGroup as _};
use hessian_probe_c10d::{ProcessGroup, generator};
use hessian_probe_rusttorch::{ShardedTrainerHost, SharedGroup};
use hessian_probe_var_store::VarStoreHost;
use rusttorch::distributed::DistributedDataParallel;
use rusttorch::nn::LinearConfig;
use rusttorch::optim::{Adam, Optimizer, Sgd};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const STEPS: u64 = 6;

/// Everything that a training leaves, in bits: losses; weights, moments and step counts; the generator.
type Trace = (Vec<u64>, String, Vec<u8>);

fn sgd(store: &VarStore) -> rusttorch::Result<Optimizer> {
    Sgd::builder().learning_rate(0.05).momentum(0.9).weight_decay(1e-3).build(store)
}

fn adam(store: &VarStore) -> rusttorch::Result<Optimizer> {
    Adam::builder().learning_rate(0.02).build(store)
}

fn settings(difference: &str) -> String {
    format!("[schedule]\nevery = 1\n[slq]\nsteps = 3\nprobes = 2\n[hvp]\ndifference = \"{difference}\"")
}

fn train(
    group: &SharedGroup,
    kind: Kind,
    build: fn(&VarStore) -> rusttorch::Result<Optimizer>,
    difference: Option<&str>,
) -> Trace {
    let (rank, ranks) = (group.rank(), group.world_size());
    tch::manual_seed(3 + rank as i64);
    let model = Model { kind, dropout: 0.4 };
    let loss = |p: &common::Parameters| model.loss(p, rank, ranks);
    let mut trainer = model.trainer(group, build);
    let mut host = ShardedTrainerHost::new(&mut trainer, group, loss).unwrap();
    let mut probe = difference.map(|difference| probe(&settings(difference)));
    let mut losses = Vec::new();
    for step in 0..STEPS {
        losses.push(host.trainer().train_step(&mut group.borrow_mut(), loss).unwrap().to_bits());
        if let Some(probe) = &mut probe {
            probe.on_step_end(step, &mut host).unwrap();
            assert_eq!(probe.latest().map(|snapshot| snapshot.step), Some(step), "no probe at step {step}");
        }
    }
    let checkpoint = host.trainer().checkpoint(&mut group.borrow_mut()).unwrap();
    let mut checkpoint = serde_json::to_value(checkpoint).unwrap();
    // Made of the number of collectives so far.
    checkpoint.as_object_mut().unwrap().remove("checkpoint_id").unwrap();
    (losses, checkpoint.to_string(), generator::state(Device::Cpu).unwrap())
}

#[test]
fn training_with_probes_is_bit_identical() {
    on_ranks(&[1, 2], |torchs: &ProcessGroup| {
        let group = group(torchs, TIMEOUT);
        for (kind, build) in [(Kind::Float, adam as fn(&VarStore) -> _), (Kind::Double, sgd)] {
            let without = train(&group, kind, build, None);
            assert_ne!(without.0[0], without.0[1]);
            assert!(without.1.contains("slots"), "{}", without.1);
            for difference in ["auto", "exact"] {
                assert!(without == train(&group, kind, build, Some(difference)), "{kind:?}, {difference}");
            }
        }
    });
}

/// The loop of the crate's own example, `distributed_training`.
fn replicas(group: &SharedGroup, probed: bool) -> (Vec<u8>, Vec<f64>) {
    let rank = group.rank();
    let mut store = VarStore::new(Device::Cpu);
    store.set_kind(Kind::Double);
    tch::manual_seed(5);
    let model = LinearConfig::new(2, 1).build(&store.root()).unwrap();
    let replica = DistributedDataParallel::new(&mut group.borrow_mut(), &store).unwrap();
    let mut optimizer = Adam::builder().learning_rate(0.03).build(&store).unwrap();
    let x = Tensor::from_slice(&[rank as f64, 1., rank as f64 + 1., 1.]).reshape([2, 2]);
    let y = x.narrow(1, 0, 1) * 2. + 0.5;
    let loss = || -> rusttorch::Result<Tensor> {
        Ok(model.forward(&x)?.f_sub(&y)?.f_square()?.f_mean(Kind::Double)?)
    };
    let mut host = VarStoreHost::new(&store, loss).unwrap().over(group);
    let mut probe = probed.then(|| probe(&settings("auto")));
    for step in 0..STEPS {
        replica.sync_buffers(&mut group.borrow_mut()).unwrap();
        replica.backward_step(&mut group.borrow_mut(), &mut optimizer, &loss().unwrap()).unwrap();
        if let Some(probe) = &mut probe {
            probe.on_step_end(step, &mut host).unwrap();
        }
    }
    let weights = bytes(&store);
    let spectrum = probe.and_then(|probe| {
        let snapshot = probe.latest()?;
        Some(vec![snapshot.parameters as f64, snapshot.lambda_max.value, snapshot.lambda_min.value])
    });
    (weights, spectrum.unwrap_or_default())
}

fn bytes(store: &VarStore) -> Vec<u8> {
    let mut all: Vec<_> = store.variables().into_iter().collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.iter().flat_map(|(_, tensor)| common::bits(tensor)).collect()
}

#[test]
fn a_data_parallel_loop_is_probed_over_the_same_group() {
    on_ranks(&[1, 2], |torchs: &ProcessGroup| {
        let group = group(torchs, TIMEOUT);
        let (without, _) = replicas(&group, false);
        let (with, spectrum) = replicas(&group, true);
        assert_eq!(without, with);
        // Linear regression: H = 2 XᵀX ÷ examples over (x₀, x₁, 1), whatever the weights.
        let ranks = group.world_size();
        let rows: Vec<f64> = (0..ranks).flat_map(|r| [r as f64, 1., 1., r as f64 + 1., 1., 1.]).collect();
        let x = Tensor::from_slice(&rows).view([2 * ranks as i64, 3]);
        let h = x.tr().matmul(&x) * (1.0 / ranks as f64);
        let eigenvalues = Vec::<f64>::try_from(h.linalg_eigvalsh("L")).unwrap();
        let expected = [3.0, eigenvalues[2], eigenvalues[0]];
        for (found, expected) in spectrum.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6 * eigenvalues[2], "{spectrum:?}, not {expected:?}");
        }
        assert_eq!(spectrum.len(), 3);
    });
}
