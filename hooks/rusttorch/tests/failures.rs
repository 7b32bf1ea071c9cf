//! What fails leaves parameters as they were, and every rank knows.

mod common;

use common::processes::{TIMEOUT, launcher, on_ranks};
use common::{Model, group, probe, stored};
use hessian_probe::{Callback, Host, ProcessGroup as _};
use hessian_probe_c10d::{ProcessGroup, is_launched};
use hessian_probe_rusttorch::ShardedTrainerHost;
use rusttorch::optim::Sgd;
use std::cell::Cell;
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

const MODEL: Model = Model { kind: Kind::Float, dropout: 0.0 };

#[test]
fn a_failure_on_one_rank_is_told_to_all_and_training_goes_on() {
    on_ranks(&[2], |torchs: &ProcessGroup| {
        let group = group(torchs, TIMEOUT);
        let (rank, ranks) = (group.rank(), group.world_size());
        let mut trainer = MODEL.trainer(&group, |store| Sgd::builder().build(store));
        // Which call of the closure fails, and how. Only on rank 1.
        for (at, how) in [(1, "error"), (6, "error"), (6, "panic"), (6, "nan"), (1, "shape"), (2, "constant")]
        {
            let calls = Cell::new(0);
            let mut host = ShardedTrainerHost::new(&mut trainer, &group, |p: &common::Parameters| {
                calls.set(calls.get() + 1);
                let loss = MODEL.loss(p, rank, ranks);
                if rank == 0 || calls.get() != at {
                    return loss.map_err(|error| error.to_string());
                }
                let loss = loss.unwrap();
                match how {
                    "error" => Err("the batch is gone".to_owned()),
                    "panic" => tch::no_grad(|| panic!("the batch is gone")),
                    "nan" => Ok(loss * f64::NAN),
                    "constant" => Ok(loss.detach()),
                    _ => Ok(loss.view([1, 1]).expand([2, 2], false)),
                }
            })
            .unwrap();
            let before = stored(host.trainer());
            let mut probe = probe("[slq]\nsteps = 4");
            let error = probe.probe(5, &mut host).unwrap_err().to_string();
            let expected = match (rank, how) {
                (0, _) => "rank 1 failed in the same evaluation",
                (_, "error") => "failed: the batch is gone",
                (_, "panic") => "panicked",
                (_, "nan") => "loss is NaN",
                (_, "constant") => "depends on no parameter",
                _ => "shape [2, 2]",
            };
            for part in [expected, "step 5", &format!("rank {rank}: ")] {
                assert!(error.contains(part), "{how}: {error}");
            }
            assert_eq!(stored(host.trainer()), before);
            // The group is whole, and so are host and trainer.
            assert!(probe.probe(6, &mut host).unwrap().lambda_max.value > 0.0);
            host.trainer().train_step(&mut group.borrow_mut(), |p| MODEL.loss(p, rank, ranks)).unwrap();
            assert_ne!(stored(host.trainer()), before);
            assert!(calls.get() > 6);
        }
    });
}

/// A peer that ends, or does not answer, in the middle of a probe: the other restores its parameters and says so in time:
/// at the timeout, and long before one of a group that is patient.
fn lost(torchs: &ProcessGroup, how: &str) {
    let timeout = Duration::from_secs(if how == "ends" { 60 } else { 4 });
    let group = group(torchs, timeout);
    let (rank, ranks) = (group.rank(), group.world_size());
    let mut trainer = MODEL.trainer(&group, |store| Sgd::builder().build(store));
    let before = stored(&mut trainer);
    let calls = Cell::new(0);
    let since = Cell::new(None);
    let mut host = ShardedTrainerHost::new(&mut trainer, &group, |p: &common::Parameters| {
        calls.set(calls.get() + 1);
        if calls.get() == 5 {
            since.set(Some(Instant::now()));
            match (rank, how) {
                (1, "ends") => std::process::exit(0),
                // Until the other one has its error, or the launcher's group has waited long enough.
                (1, _) => torchs.barrier().unwrap(),
                _ => {}
            }
        }
        MODEL.loss(p, rank, ranks)
    })
    .unwrap();
    let mut probe = probe("[slq]\nsteps = 6");
    let error = probe.probe(5, &mut host).unwrap_err().to_string();
    assert_eq!(stored(host.trainer()), before);
    assert!(error.contains(&format!("rank {rank}")) && error.contains("last checkpoint"), "{error}");
    if rank == 0 {
        let waited = since.get().unwrap().elapsed();
        let (word, longest) =
            if how == "ends" { ("disconnected", timeout / 2) } else { ("timed out", timeout * 3) };
        assert!(error.contains(word) && waited < longest, "{waited:?}: {error}");
        if how == "hangs" {
            assert!(longest < TIMEOUT, "the other one was still waiting");
            torchs.barrier().unwrap();
        }
    }
    assert!(group.borrow_mut().is_failed());
}

#[test]
fn a_process_that_ends_is_an_error_at_once() {
    let body = |torchs: &ProcessGroup| lost(torchs, "ends");
    if is_launched() {
        return body(&ProcessGroup::from_env(TIMEOUT).unwrap());
    }
    let outcome = launcher(2, &body).run().unwrap();
    let output = outcome.output(0);
    assert!(outcome.statuses()[0].success() && output.contains("1 passed"), "{output}");
}

#[test]
fn a_process_that_hangs_is_an_error_after_the_timeout() {
    on_ranks(&[2], |torchs: &ProcessGroup| lost(torchs, "hangs"));
}

#[test]
fn a_group_that_is_held_and_a_trainer_that_was_replaced_are_named() {
    on_ranks(&[1, 2], |torchs: &ProcessGroup| {
        let group = group(torchs, TIMEOUT);
        let (rank, ranks) = (group.rank(), group.world_size());
        let mut trainer = MODEL.trainer(&group, |store| Sgd::builder().build(store));
        let mut host = ShardedTrainerHost::new(&mut trainer, &group, |p| MODEL.loss(p, rank, ranks)).unwrap();
        let held = group.borrow_mut();
        let error = host.gradient().unwrap_err().to_string();
        assert!(error.contains(&format!("in use (`SharedGroup::borrow_mut`) on rank {rank}")), "{error}");
        drop(held);
        host.gradient().unwrap();
        *host.trainer() = MODEL.trainer(&group, |store| Sgd::builder().build(store));
        let error = host.gradient().unwrap_err().to_string();
        assert!(
            error.contains("parameter `layers.0.bias` of the trainer") && error.contains("anew"),
            "{error}"
        );
    });
}

#[test]
fn a_long_reduction_goes_in_pieces_within_the_limit_on_messages() {
    on_ranks(&[1, 3], |torchs: &ProcessGroup| {
        let mut options = rusttorch::distributed::GroupOptions::new("small");
        options.max_message_bytes = 1 << 16;
        let group = common::group_with(torchs, options);
        // 80 kB; of 3 ranks, 720 kB on rank 0.
        let length = 10_000;
        let mut values: Vec<f64> = (0..length).map(|i| f64::from(i) + group.rank() as f64).collect();
        group.all_reduce(&mut values, hessian_probe::ReduceOp::Sum).unwrap();
        let ranks = group.world_size() as f64;
        let offset = (0..group.world_size()).sum::<usize>() as f64;
        assert!((0..length).zip(&values).all(|(i, value)| *value == f64::from(i) * ranks + offset));
        let mut values = [group.rank() as f64, -(group.rank() as f64)];
        group.all_reduce(&mut values, hessian_probe::ReduceOp::Max).unwrap();
        assert_eq!(values, [ranks - 1.0, 0.0]);
        group.barrier().unwrap();
    });
}

#[test]
fn steps_without_a_probe_communicate_nothing() {
    on_ranks(&[2], |torchs: &ProcessGroup| {
        let group = group(torchs, TIMEOUT);
        let (rank, ranks) = (group.rank(), group.world_size());
        let mut trainer = MODEL.trainer(&group, |store| Sgd::builder().build(store));
        let loss = |p: &common::Parameters| -> rusttorch::Result<Tensor> { MODEL.loss(p, rank, ranks) };
        let mut host = ShardedTrainerHost::new(&mut trainer, &group, loss).unwrap();
        let mut probe = probe("[schedule]\nevery = 1000");
        probe.on_train_begin(&mut host).unwrap();
        // Rank 1 is not there.
        if rank == 0 {
            let held = group.borrow_mut();
            for step in 1..1000 {
                probe.on_step_end(step, &mut host).unwrap();
            }
            drop(held);
        }
        group.barrier().unwrap();
    });
}
