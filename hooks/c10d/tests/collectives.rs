//! Every collective gives the expected values, on every number of ranks, in every dtype.

mod common;

use common::{number, on_ranks};
use hessian_probe_c10d::{ProcessGroup, ReduceOp};
use tch::{Device, Kind, Tensor};

const KINDS: [Kind; 7] =
    [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half, Kind::Int64, Kind::Int, Kind::Uint8];
const OPS: [ReduceOp; 4] = [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Avg];
// Below and above what travels in the opening packet.
const SIZES: [i64; 4] = [0, 1, 12, 3000];

/// Small integers, so that all sums and halves of them are exact in all dtypes.
fn contribution(rank: usize, size: i64) -> Vec<f64> {
    (0..usize::try_from(size).unwrap()).map(|i| number((i * 5 + rank * 3) % 7)).collect()
}

fn reduced(world_size: usize, size: i64, op: ReduceOp) -> Vec<f64> {
    let all: Vec<_> = (0..world_size).map(|rank| contribution(rank, size)).collect();
    (0..usize::try_from(size).unwrap())
        .map(|i| {
            let column = all.iter().map(|values| values[i]);
            match op {
                ReduceOp::Sum => column.sum(),
                ReduceOp::Avg => column.sum::<f64>() / number(world_size),
                ReduceOp::Max => column.fold(f64::NEG_INFINITY, f64::max),
                ReduceOp::Min => column.fold(f64::INFINITY, f64::min),
            }
        })
        .collect()
}

fn tensor(values: &[f64], kind: Kind) -> Tensor {
    Tensor::from_slice(values).to_kind(kind)
}

#[test]
fn every_collective_gives_the_expected_values() {
    on_ranks(&[1, 2, 4], |group| {
        let (rank, world_size) = (group.rank(), group.world_size());
        let ranks = i64::try_from(world_size).unwrap();
        for kind in KINDS {
            for op in OPS {
                if op == ReduceOp::Avg && matches!(kind, Kind::Int64 | Kind::Int | Kind::Uint8) {
                    continue;
                }
                for size in SIZES {
                    let values = tensor(&contribution(rank, size), kind);
                    group.all_reduce(&values, op).unwrap();
                    let expected = tensor(&reduced(world_size, size, op), kind);
                    assert_eq!(values, expected, "all_reduce({op}) of {size} {kind:?}");

                    let input = tensor(&contribution(rank, size * ranks), kind);
                    let output = Tensor::zeros([size], (kind, Device::Cpu));
                    group.reduce_scatter_into(&output, &input, op).unwrap();
                    let all = tensor(&reduced(world_size, size * ranks, op), kind);
                    let expected = all.narrow(0, size * i64::try_from(rank).unwrap(), size);
                    assert_eq!(output, expected, "reduce_scatter_into({op}) of {size} {kind:?}");
                }
            }
            for size in SIZES {
                let input = tensor(&contribution(rank, size), kind);
                let output = Tensor::zeros([ranks, size], (kind, Device::Cpu));
                group.all_gather_into(&output, &input).unwrap();
                for peer in 0..world_size {
                    let expected = tensor(&contribution(peer, size), kind);
                    assert_eq!(output.get(i64::try_from(peer).unwrap()), expected, "{size} {kind:?}");
                }
                for root in 0..world_size {
                    let values = tensor(&contribution(rank, size), kind);
                    group.broadcast(&values, root).unwrap();
                    assert_eq!(values, tensor(&contribution(root, size), kind), "{size} {kind:?}");
                }
            }
            group.barrier().unwrap();
        }
        group.monitored_barrier().unwrap();
    });
}

fn random(seed: usize, size: i64) -> Tensor {
    tch::manual_seed(i64::try_from(seed).unwrap());
    Tensor::randn([size], (Kind::Float, Device::Cpu))
}

#[test]
fn all_reduce_gives_every_rank_the_same_bits_every_time() {
    on_ranks(&[3, 4], |group| {
        for size in [100, 70_001] {
            for op in OPS {
                let reduce = || {
                    let values = random(group.rank(), size);
                    group.all_reduce(&values, op).unwrap();
                    values
                };
                let values = reduce();
                assert_eq!(values, reduce(), "repeated");
                let ranks = i64::try_from(group.world_size()).unwrap();
                let all = Tensor::zeros([ranks, size], (Kind::Float, Device::Cpu));
                group.all_gather_into(&all, &values).unwrap();
                for peer in 0..ranks {
                    assert_eq!(all.get(peer), values, "rank {peer}");
                }
            }
        }
    });
}

#[test]
fn reduce_scatter_gives_the_slice_of_all_reduce() {
    on_ranks(&[2, 3, 4], |group| {
        let (rank, ranks) =
            (i64::try_from(group.rank()).unwrap(), i64::try_from(group.world_size()).unwrap());
        for size in [7, 20_001] {
            for op in OPS {
                let (input, all) = (random(group.rank(), size * ranks), random(group.rank(), size * ranks));
                let output = Tensor::zeros([size], (Kind::Float, Device::Cpu));
                group.reduce_scatter_into(&output, &input, op).unwrap();
                group.all_reduce(&all, op).unwrap();
                assert_eq!(output, all.narrow(0, rank * size, size), "{op}, size {size}");
            }
        }
    });
}

#[test]
fn a_nan_of_one_rank_gives_all_ranks_the_same_bits() {
    on_ranks(&[3], |group| {
        for size in [2, 3000] {
            for op in OPS {
                let values = random(group.rank(), size);
                if group.rank() == 1 {
                    let _ = values.narrow(0, 1, 1).fill_(f64::NAN);
                }
                group.all_reduce(&values, op).unwrap();
                let mine = values.view_dtype(Kind::Int);
                let all = Tensor::zeros([3, size], (Kind::Int, Device::Cpu));
                group.all_gather_into(&all, &mine).unwrap();
                for peer in 0..3 {
                    assert_eq!(all.get(peer), mine, "{op} of {size}, rank {peer}");
                }
                if matches!(op, ReduceOp::Sum | ReduceOp::Avg) {
                    assert!(values.double_value(&[1]).is_nan());
                }
            }
        }
    });
}

#[test]
fn slices_of_a_probe_are_reduced() {
    on_ranks(&[1, 2], |group| {
        let group: &dyn hessian_probe::ProcessGroup = group;
        let scale = number(group.rank() + 1);
        // 500 do not fit the opening packet.
        for count in [1, 2, 500] {
            let mut values: Vec<_> = (0..count).map(|i| scale * number(i)).collect();
            group.all_reduce(&mut values, hessian_probe::ReduceOp::Sum).unwrap();
            let total = if group.world_size() == 1 { 1.0 } else { 3.0 };
            assert!(values.iter().enumerate().all(|(i, value)| *value == total * number(i)));
        }
        let mut values = [scale];
        group.all_reduce(&mut values, hessian_probe::ReduceOp::Max).unwrap();
        assert_eq!(values, [number(group.world_size())]);
        group.barrier().unwrap();
    });
}

#[test]
fn a_leaf_that_requires_gradients_can_be_gathered_into() {
    on_ranks(&[1, 2], |group| {
        let ranks = i64::try_from(group.world_size()).unwrap();
        for size in [2, 2000] {
            let flat = Tensor::zeros([ranks * size], (Kind::Float, Device::Cpu));
            let leaf = flat.view([ranks, size]).detach().set_requires_grad(true);
            let shard = Tensor::ones([size], (Kind::Float, Device::Cpu));
            group.all_gather_into(&leaf, &shard).unwrap();
            assert_eq!(
                flat.sum(Kind::Float).double_value(&[]),
                number(usize::try_from(ranks * size).unwrap())
            );
            assert!(leaf.is_leaf() && leaf.requires_grad());
        }
    });
}

#[test]
fn without_an_environment_the_group_is_single() {
    let group = ProcessGroup::from_env(common::TIMEOUT).unwrap();
    assert_eq!((group.rank(), group.world_size()), (0, 1));
    assert_eq!(group.backend(Device::Cpu), hessian_probe_c10d::Backend::Local);
    group.barrier().unwrap();
}

#[test]
fn gathers_under_way_let_other_collectives_pass() {
    on_ranks(&[1, 2, 4], |group| {
        let (rank, world_size) = (group.rank(), group.world_size());
        // The second and third travel in packets, or not at all.
        let sizes = [200_000, 12, 0, 70_000];
        let outputs: Vec<Tensor> = sizes
            .iter()
            .map(|&size| {
                Tensor::zeros([i64::try_from(world_size).unwrap(), size], (Kind::Float, Device::Cpu))
            })
            .collect();
        for round in 0..5 {
            let started: Vec<_> = sizes
                .iter()
                .zip(&outputs)
                .map(|(&size, output)| {
                    let input = tensor(&contribution(rank + round, size), Kind::Float);
                    // The input is dropped here: the call keeps its memory.
                    group.start_all_gather_into(output, &input).unwrap()
                })
                .collect();
            let values = tensor(&contribution(rank, 5000), Kind::Double);
            group.all_reduce(&values, ReduceOp::Sum).unwrap();
            assert_eq!(values, tensor(&reduced(world_size, 5000, ReduceOp::Sum), Kind::Double));
            // In any order, and by dropping, too.
            for (index, started) in started.into_iter().enumerate().rev() {
                if index == 3 { drop(started) } else { started.wait().unwrap() }
            }
            for (&size, output) in sizes.iter().zip(&outputs) {
                for peer in 0..world_size {
                    let expected = tensor(&contribution(peer + round, size), Kind::Float);
                    assert_eq!(output.get(i64::try_from(peer).unwrap()), expected, "{size} of {peer}");
                }
            }
        }
    });
}
