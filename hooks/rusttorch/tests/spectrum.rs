//! The numbers are those of the dense Hessian on any number of ranks, and padding is no part of them.

mod common;

use common::processes::{TIMEOUT, on_ranks};
use common::{Model, N, bits, flat, group, probe, snapshots_on, stored};
use hessian_probe::{Host, ProcessGroup as _, Snapshot};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_rusttorch::ShardedTrainerHost;
use rusttorch::optim::Sgd;
use tch::{Kind, Tensor};

const DIFFERENCES: [(&str, f64); 2] = [("central", 1e-6), ("exact", 1e-9)];
const EXACT: Model = Model { kind: Kind::Double, dropout: 0.0 };

/// One rank of a probe over the whole space.
fn measure(torchs: &ProcessGroup) -> Vec<Snapshot> {
    let group = group(torchs, TIMEOUT);
    let (rank, ranks) = (group.rank(), group.world_size());
    let mut trainer = EXACT.trainer(&group, |store| Sgd::builder().build(store));
    let before = stored(&mut trainer);
    let mut host =
        ShardedTrainerHost::new(&mut trainer, &group, |p| EXACT.loss(p, rank, ranks)).unwrap().targets(24);
    let snapshots = DIFFERENCES.map(|(difference, _)| {
        let toml = format!(
            "[slq]\nsteps = {N}\nprobes = 2\n[hvp]\ndifference = \"{difference}\"\n[blocks]\nby = \"layer\"\nvectors = 2"
        );
        probe(&toml).probe(0, &mut host).unwrap().clone()
    });
    assert_eq!(stored(host.trainer()), before);
    snapshots.into()
}

#[test]
fn the_spectrum_is_that_of_the_dense_hessian_on_any_number_of_ranks() {
    let body = |group: &ProcessGroup| measure(group);
    let Some(of) = snapshots_on([1, 2, 3], body) else { return };
    let dense = EXACT.dense_hessian();
    let eigenvalues = Vec::<f64>::try_from(dense.linalg_eigvalsh("L")).unwrap();
    let (low, high) = (eigenvalues[0], eigenvalues[eigenvalues.len() - 1]);
    assert!(low < -1e-3 * high, "no negative curvature to find: {low}");
    let scale = high.abs().max(low.abs());
    let diagonal = Vec::<f64>::try_from(dense.diag(0)).unwrap();
    for (kind, (difference, tolerance)) in DIFFERENCES.into_iter().enumerate() {
        let one = &of[0][0][kind];
        let places =
            of.iter().zip(1..).flat_map(|(on, ranks)| on.iter().enumerate().map(move |it| (ranks, it)));
        for (ranks, (rank, snapshots)) in places {
            let found = &snapshots[kind];
            let place = format!("{difference}, rank {rank} of {ranks}");
            assert_eq!(
                (found.parameters, found.tokens, found.world_size),
                (N as u64, Some(24), ranks),
                "{place}"
            );
            let close = |value: f64, expected: f64| {
                assert!((value - expected).abs() < tolerance * scale, "{place}: {value}, not {expected}");
            };
            close(found.lambda_max.value, high);
            close(found.lambda_min.value, low);
            close(found.loss, one.loss);
            close(found.gradient_norm, one.gradient_norm);
            close(found.parameter_norm, one.parameter_norm);
            for (run, of_one) in found.probes.iter().zip(&one.probes) {
                for node in &run.nodes {
                    let off =
                        eigenvalues.iter().map(|value| (value - node).abs()).fold(f64::INFINITY, f64::min);
                    assert!(off < tolerance * scale, "{place}: {node} is no eigenvalue");
                }
                // The same start: the first ten steps before rounding parts the runs.
                assert_eq!(run.alpha.len(), of_one.alpha.len());
                run.alpha.iter().zip(&of_one.alpha).take(10).for_each(|(a, b)| close(*a, *b));
                run.beta.iter().zip(&of_one.beta).take(10).for_each(|(a, b)| close(*a, *b));
            }
            // Parameters by name: 3 + 12 of layers.0, 2 + 6 of output.
            let blocks = &found.block_diagonal.as_ref().unwrap().blocks;
            let layout: Vec<_> = blocks.iter().map(|block| (block.name.as_str(), block.parameters)).collect();
            assert_eq!(layout, [("layers.0", 15), ("output", 8)], "{place}");
            for (block, range) in blocks.iter().zip([0..15, 15..23]) {
                let expected = diagonal[range].iter().sum::<f64>();
                let error = block.trace.standard_error.unwrap();
                assert!((block.trace.mean - expected).abs() < 20.0 * error + 1e-6 * scale, "{place}");
            }
        }
    }
}

#[test]
fn products_are_those_of_the_dense_hessian() {
    on_ranks(&[1, 2, 3], |torchs| {
        let group = group(torchs, TIMEOUT);
        let (rank, ranks) = (group.rank(), group.world_size());
        let mut trainer = EXACT.trainer(&group, |store| Sgd::builder().build(store));
        let mut host = ShardedTrainerHost::new(&mut trainer, &group, |p| EXACT.loss(p, rank, ranks)).unwrap();
        let shards = host.shards();
        let dense = EXACT.dense_hessian();
        let v = Tensor::arange(N, (Kind::Double, tch::Device::Cpu)).cos();
        let mine = |whole: &Tensor| -> Vec<Tensor> {
            let part = |shard: &hessian_probe::Shard| {
                whole.narrow(0, shard.global_offset.min(N as u64) as i64, shard.tensor.numel() as i64)
            };
            shards.iter().map(part).collect()
        };
        let off = (flat(&host.exact_hvp(&mine(&v)).unwrap()) - flat(&mine(&dense.mv(&v)))).abs().max();
        assert!(off.double_value(&[]) < 1e-13, "{off:?}");
        let error = host.exact_hvp(&[]).unwrap_err().to_string();
        assert_eq!(error, "0 tensors given for 4 parameters, or not of their sizes");
    });
}

#[test]
fn gradients_are_those_of_a_training_step_and_padding_is_left_alone() {
    on_ranks(&[1, 2, 3], |torchs| {
        let group = group(torchs, TIMEOUT);
        let (rank, ranks) = (group.rank(), group.world_size());
        for kind in [Kind::Float, Kind::Double] {
            let model = Model { kind, dropout: 0.0 };
            // θ − 1·g: the gradient can be told from the step.
            let mut trainer = model.trainer(&group, |store| Sgd::builder().learning_rate(1.0).build(store));
            let mut host =
                ShardedTrainerHost::new(&mut trainer, &group, |p| model.loss(p, rank, ranks)).unwrap();
            let shards = host.shards();
            let names: Vec<_> = shards.iter().map(|shard| shard.name.as_str()).collect();
            assert_eq!(names, ["layers.0.bias", "layers.0.weight", "output.bias", "output.weight"]);
            for (shard, chunk) in shards.iter().zip(host.trainer().optimizer_mut().named_parameters()) {
                let _no_grad = tch::no_grad_guard();
                let (count, width) = (shard.tensor.numel() as i64, chunk.1.numel() as i64);
                let _ = chunk.1.narrow(0, count, width - count).fill_(7.0);
            }
            let before = stored(host.trainer());
            let mut probe = probe("[slq]\nsteps = 6");
            assert_eq!(probe.probe(0, &mut host).unwrap().parameters, N as u64);
            assert_eq!(stored(host.trainer()), before, "{kind:?}");
            let gradient = host.gradient().unwrap();
            let expected: Vec<_> =
                shards.iter().zip(&gradient.tensors).map(|(shard, g)| bits(&(&shard.tensor - g))).collect();
            let loss = host.trainer().train_step(&mut group.borrow_mut(), |p| model.loss(p, rank, ranks));
            assert_eq!(loss.unwrap().to_bits(), gradient.loss.to_bits(), "{kind:?}");
            let stepped: Vec<_> = shards.iter().map(|shard| bits(&shard.tensor)).collect();
            assert_eq!(stepped, expected, "{kind:?}");
        }
    });
}
