//! What a collective cannot do is an error on every rank, and the group can still be used.

mod common;

use common::{number, on_ranks};
use hessian_probe_c10d::{Error, ProcessGroup, ReduceOp};
use tch::{Device, Kind, Tensor};

const FLOATS: (Kind, Device) = (Kind::Float, Device::Cpu);

fn still_works(group: &ProcessGroup) {
    for size in [1, 3000] {
        let ones = Tensor::ones([size], FLOATS);
        group.all_reduce(&ones, ReduceOp::Sum).unwrap();
        assert_eq!(ones.get(0).double_value(&[]), number(group.world_size()));
    }
}

#[test]
fn a_tensor_that_cannot_be_sent_is_an_error_and_says_why() {
    let group = ProcessGroup::single();
    let strided = Tensor::zeros([4, 6], FLOATS).transpose(0, 1);
    let sparse = Tensor::eye(3, FLOATS).to_sparse(None, None::<i64>, None);
    let ints = Tensor::zeros([2], (Kind::Int64, Device::Cpu));
    let bools = Tensor::zeros([2], (Kind::Bool, Device::Cpu));
    let floats = |n: i64| Tensor::zeros([n], FLOATS);
    let cases = [
        (group.all_reduce(&strided, ReduceOp::Sum), "not contiguous (strides [1, 6])"),
        (group.all_reduce(&sparse, ReduceOp::Sum), "not dense"),
        (group.all_reduce(&Tensor::new(), ReduceOp::Sum), "undefined"),
        (group.all_reduce(&bools, ReduceOp::Max), "dtype Bool"),
        (group.all_reduce(&ints, ReduceOp::Avg), "average of Int64"),
        (group.broadcast(&floats(2), 1), "root rank 1"),
        (group.all_gather_into(&floats(3), &floats(2)), "world size × input"),
        (group.all_gather_into(&floats(2), &ints), "the output is Float on Cpu, the input Int64"),
        (group.reduce_scatter_into(&floats(3), &floats(2), ReduceOp::Sum), "input ÷ world size"),
        (group.reduce_scatter_into(&strided, &floats(24), ReduceOp::Sum), "the output is not contiguous"),
    ];
    for (result, reason) in cases {
        let error = result.expect_err(reason);
        assert!(matches!(error, Error::Argument { .. }) && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_refused_argument_on_one_rank_is_an_error_on_all() {
    on_ranks(&[2, 4], |group| {
        for rows in [2, 200] {
            let tensor = Tensor::zeros([rows, 6], FLOATS);
            let tensor = if group.rank() == 1 { tensor.transpose(0, 1) } else { tensor };
            let error = group.all_reduce(&tensor, ReduceOp::Sum).unwrap_err();
            match (&error, group.rank()) {
                (Error::Argument { rank: 1, .. }, 1) => {}
                (Error::PeerArgument { peer: 1, reason, .. }, _) => {
                    assert!(reason.contains("not contiguous"), "{error}");
                }
                _ => panic!("{error}"),
            }
            still_works(group);
        }
    });
}

#[test]
fn calls_that_differ_between_ranks_are_an_error_on_all() {
    on_ranks(&[2, 4], |group| {
        let odd = group.rank() == 1;
        let zeros = |n: i64, kind| Tensor::zeros([n], (kind, Device::Cpu));
        let ranks = i64::try_from(group.world_size()).unwrap();
        // Both calls of each pair are then known to every rank: that must not make them less checked.
        for size in [10, 7, 5000, 7000] {
            group.all_reduce(&zeros(size, Kind::Float), ReduceOp::Sum).unwrap();
        }
        group.all_gather_into(&zeros(5000 * ranks, Kind::Float), &zeros(5000, Kind::Float)).unwrap();

        let size = |a, b| if odd { b } else { a };
        let (sum, max) = (ReduceOp::Sum, ReduceOp::Max);
        let different: [(&str, &dyn Fn() -> hessian_probe_c10d::Result<()>); 8] = [
            ("small sizes", &|| group.all_reduce(&zeros(size(10, 7), Kind::Float), sum)),
            ("large sizes", &|| group.all_reduce(&zeros(size(5000, 7000), Kind::Float), sum)),
            ("small and large", &|| group.all_reduce(&zeros(size(10, 7000), Kind::Float), sum)),
            ("operations", &|| group.all_reduce(&zeros(10, Kind::Float), if odd { sum } else { max })),
            ("dtypes of one size", &|| {
                group.all_reduce(&zeros(5000, if odd { Kind::Int } else { Kind::Float }), sum)
            }),
            ("roots", &|| group.broadcast(&zeros(5000, Kind::Float), usize::from(odd))),
            ("a tensor and a barrier", &|| match odd {
                true => group.barrier(),
                false => group.all_reduce(&zeros(5000, Kind::Float), sum),
            }),
            ("collectives", &|| match odd {
                true => group.all_reduce(&zeros(5000, Kind::Float), sum),
                false => group.all_gather_into(&zeros(5000 * ranks, Kind::Float), &zeros(5000, Kind::Float)),
            }),
        ];
        for (what, call) in different {
            let error = call().expect_err(what);
            assert!(matches!(error, Error::Mismatch { .. }), "{what}: {error}");
            let other = if odd { "rank 0" } else { "rank 1" };
            assert!(error.to_string().contains(other), "{what}: {error}");
            still_works(group);
        }
    });
}
