//! Data-parallel over real processes.

mod common;

use common::processes::on_ranks;
use common::{Perceptron, bits, probe, snapshots_on, stored};
use hessian_probe::{Host, Snapshot};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_var_store::VarStoreHost;
use tch::{Device, Kind, Tensor};

const DIFFERENCES: [&str; 2] = ["auto", "exact"];

/// One rank of a probe on 32 examples.
fn measure(group: &ProcessGroup) -> Vec<Snapshot> {
    let (rank, ranks) = (group.rank() as i64, group.world_size() as i64);
    let model = Perceptron::new(Kind::Double);
    let loss = || model.loss_of(32 / ranks * rank, 32 / ranks);
    let mut host = VarStoreHost::new(&model.vs, loss).unwrap().over(group).targets(32);
    let before = stored(&model.vs);
    let snapshots = DIFFERENCES.map(|difference| {
        let toml = format!(
            "[slq]\nsteps = 8\nprobes = 2\n[hvp]\ndifference = \"{difference}\"\n[blocks]\nby = \"layer\"\nvectors = 2"
        );
        probe(&toml).probe(0, &mut host).unwrap().clone()
    });
    assert_eq!(stored(&model.vs), before);
    snapshots.into()
}

#[test]
fn two_ranks_report_what_one_does_with_the_joined_batch() {
    let body = |group: &ProcessGroup| measure(group);
    let Some([of_one, of_two]) = snapshots_on([1, 2], body) else { return };
    for (kind, difference) in DIFFERENCES.into_iter().enumerate() {
        let one = &of_one[0][kind];
        for (rank, two) in of_two.iter().map(|snapshots| &snapshots[kind]).enumerate() {
            // Replicated parameters are counted once.
            assert_eq!((one.parameters, two.parameters, two.world_size), (30, 30, 2));
            assert_eq!((one.tokens, two.tokens), (Some(32), Some(32)));
            let scale = one.lambda_max.value.abs();
            let close = |a: f64, b: f64| {
                assert!((a - b).abs() < 1e-5 * scale, "{difference}, rank {rank}: {a} and {b}");
            };
            close(one.loss, two.loss);
            close(one.gradient_norm, two.gradient_norm);
            close(one.parameter_norm, two.parameter_norm);
            for (a, b) in one.probes.iter().zip(&two.probes) {
                assert_eq!((a.alpha.len(), a.beta.len()), (b.alpha.len(), b.beta.len()));
                a.alpha
                    .iter()
                    .zip(&b.alpha)
                    .chain(a.beta.iter().zip(&b.beta))
                    .for_each(|(a, b)| close(*a, *b));
            }
            let blocks = |snapshot: &Snapshot| {
                let found = snapshot.block_diagonal.clone().unwrap();
                found
                    .blocks
                    .into_iter()
                    .map(|block| (block.name, block.parameters, block.trace.mean))
                    .collect::<Vec<_>>()
            };
            for (a, b) in blocks(one).into_iter().zip(blocks(two)) {
                assert_eq!((&a.0, a.1), (&b.0, b.1));
                close(a.2, b.2);
            }
        }
    }
}

#[test]
fn the_gradient_is_the_mean_over_ranks_also_where_it_takes_several_pieces() {
    on_ranks(&[1, 2, 3], |group| {
        // Gradients that are views of one number, and one tensor for two parameters.
        let length = 700_000_i64;
        let mut vs = tch::nn::VarStore::new(Device::Cpu);
        let names = ["a", "b", "c", "d"];
        let p: Vec<Tensor> = names.iter().map(|name| vs.root().ones(name, &[length])).collect();
        let x = Tensor::arange(length, (Kind::Float, Device::Cpu)) * (group.rank() as f64 + 1.0);
        for kind in [Kind::Float, Kind::BFloat16] {
            if kind == Kind::BFloat16 {
                vs.bfloat16();
            }
            let ranks = group.world_size() as f64;
            let mean_factor = (ranks + 1.0) / 2.0;
            let scale = x.to_kind(kind);
            let loss = || {
                ((&p[0] + &p[1]) * &scale).sum(Kind::Float)
                    + (&p[2] * 3.0).sum(Kind::Float)
                    + p[3].sum(Kind::Float) * (group.rank() as f64)
            };
            let mut host = VarStoreHost::new(&vs, loss).unwrap().over(group);
            let gradient = host.gradient().unwrap();
            let index = Tensor::arange(length, (Kind::Double, Device::Cpu));
            let expected = [
                &index * mean_factor,
                &index * mean_factor,
                index.full_like(3.0),
                index.full_like((ranks - 1.0) / 2.0),
            ];
            for ((found, expected), name) in gradient.tensors.iter().zip(&expected).zip(names) {
                let unit = if kind == Kind::Float { 1e-6 } else { 8e-3 };
                let off = (found.to_kind(Kind::Double) - expected).abs() - expected.abs() * unit;
                assert!(off.max().double_value(&[]) <= 1e-12, "{name} of {kind:?}");
            }
            assert_eq!(bits(&gradient.tensors[0]), bits(&gradient.tensors[1]));
        }
    });
}

#[test]
fn a_failure_on_one_rank_is_told_to_all_and_the_next_probe_works() {
    on_ranks(&[2], |group| {
        let model = Perceptron::new(Kind::Float);
        let before = stored(&model.vs);
        let mut calls = 0;
        // Which call of the closure fails, and how. Only on rank 1.
        for (at, how) in [(1, "error"), (6, "error"), (6, "panic"), (6, "nan"), (1, "shape")] {
            calls = 0;
            let mut host = VarStoreHost::new(&model.vs, || {
                calls += 1;
                if group.rank() == 0 || calls != at {
                    return Ok(model.loss());
                }
                match how {
                    "error" => Err("the batch is gone"),
                    "panic" => panic!("the batch is gone"),
                    "nan" => Ok(model.loss() * f64::NAN),
                    _ => Ok(model.loss().view([1, 1]).expand([2, 2], false)),
                }
            })
            .unwrap()
            .over(group);
            let mut probe = probe("[slq]\nsteps = 4");
            let error = probe.probe(5, &mut host).unwrap_err().to_string();
            let expected = match (group.rank(), how) {
                (0, _) => "rank 1 failed in the same evaluation",
                (_, "error") => "failed: the batch is gone",
                (_, "panic") => "panicked",
                (_, "nan") => "loss is NaN",
                _ => "shape [2, 2]",
            };
            assert!(
                error.contains(expected) && error.contains(&format!("rank {}: ", group.rank())),
                "{how}: {error}"
            );
            assert_eq!(stored(&model.vs), before);
            // The group is whole, and so is the host.
            let snapshot = probe.probe(6, &mut host).unwrap();
            assert!(snapshot.lambda_max.value > 0.0);
        }
        assert!(calls > 6);
    });
}

#[test]
fn ranks_with_different_parameters_are_told_which() {
    on_ranks(&[2], |group| {
        let model = Perceptron::new(Kind::Float);
        if group.rank() == 1 {
            let _no_grad = tch::no_grad_guard();
            let _ = model.parameters()[2].view([-1]).get(0).g_add_scalar_(1e-6);
        }
        let mut host = VarStoreHost::new(&model.vs, || model.loss()).unwrap().over(group);
        let error = probe("[slq]\nsteps = 4").probe(0, &mut host).unwrap_err().to_string();
        assert!(error.contains("parameter `layers.1.dense.bias` is not the same on all ranks"), "{error}");
    });
}
