//! A rank that dies or stalls is an error on the others, soon, and never a hang.

mod common;

use common::{TIMEOUT, expect_success, launcher, on_ranks};
use hessian_probe_c10d::{Error, Output, ProcessGroup, ReduceOp, StoreServer, is_launched};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

const SHORT: Duration = Duration::from_millis(1500);

/// Ranks start slowly where many tests run; only the collectives are to be impatient.
fn impatient_group() -> ProcessGroup {
    let mut group = ProcessGroup::from_env(TIMEOUT).unwrap();
    group.set_timeout(SHORT).unwrap();
    group
}

fn zeros(size: i64) -> Tensor {
    Tensor::zeros([size], (Kind::Float, Device::Cpu))
}

fn closed(group: &ProcessGroup, cause: &str) {
    let started = Instant::now();
    for error in [group.barrier().unwrap_err(), group.monitored_barrier().unwrap_err()] {
        assert!(matches!(error, Error::Closed { .. }) && error.to_string().contains(cause), "{error}");
    }
    assert!(started.elapsed() < Duration::from_millis(100));
}

#[test]
fn survivors_of_a_killed_rank_learn_which_within_seconds() {
    let body = |group: &ProcessGroup| {
        let values = zeros(200_000);
        for step in 0.. {
            if step == 3 && group.rank() == 1 {
                // SAFETY: ends this process.
                unsafe { libc::raise(libc::SIGKILL) };
            }
            let started = Instant::now();
            let Err(error) = group.all_reduce(&values, ReduceOp::Sum) else { continue };
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
            let text = error.to_string();
            assert!(matches!(error, Error::PeerLost { .. }), "{text}");
            assert!(text.contains("all_reduce(sum) of [200000] Float"), "{text}");
            assert!(text.contains(&format!("rank {}:", group.rank())), "{text}");
            assert!(text.contains("not heard of: rank 1"), "{text}");
            closed(group, &text);
            return;
        }
    };
    if is_launched() {
        body(&ProcessGroup::from_env(TIMEOUT).unwrap());
        return;
    }
    let outcome = launcher(4, &survivors_of_a_killed_rank_learn_which_within_seconds).run().unwrap();
    let statuses = outcome.statuses();
    assert_eq!(outcome.first_failure().map(|(rank, status)| (rank, status.signal())), Some((1, Some(9))));
    for rank in [0, 2, 3] {
        assert!(statuses[rank].success(), "{}", outcome.output(rank));
    }
}

#[test]
fn a_rank_killed_while_a_gather_is_under_way_is_an_error_of_waiting_for_it() {
    let body = |group: &ProcessGroup| {
        // More than fits into buffers of sockets: whoever dies now has not sent it.
        let (shard, whole) = (zeros(4_000_000), zeros(3 * 4_000_000));
        let started = Instant::now();
        let gathering = group.start_all_gather_into(&whole, &shard).unwrap();
        if group.rank() == 1 {
            // SAFETY: ends this process.
            unsafe { libc::raise(libc::SIGKILL) };
        }
        // On a busy machine it may have sent all of it before it dies; then the next collective tells.
        let error = if group.rank() == 0 {
            gathering.wait().and_then(|()| group.barrier()).unwrap_err()
        } else {
            drop(gathering);
            group.barrier().unwrap_err()
        };
        let text = error.to_string();
        assert!(matches!(error, Error::PeerLost { .. } | Error::Closed { .. }), "{text}");
        assert!(text.contains("all_gather_into of [4000000] Float") || text.contains("barrier: "), "{text}");
        assert!(text.contains("not heard of: rank 1;"), "{text}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        closed(group, "not heard of: rank 1;");
    };
    if is_launched() {
        body(&ProcessGroup::from_env(TIMEOUT).unwrap());
        return;
    }
    let test = &a_rank_killed_while_a_gather_is_under_way_is_an_error_of_waiting_for_it;
    let outcome = launcher(3, test).run().unwrap();
    let statuses = outcome.statuses();
    let told = || format!("{statuses:?}\nrank 0: {}\nrank 2: {}", outcome.output(0), outcome.output(2));
    assert_eq!(outcome.first_failure().map(|(rank, status)| (rank, status.signal())), Some((1, Some(9))));
    assert!(statuses[0].success() && statuses[2].success(), "{}", told());
}

#[test]
fn a_rank_killed_in_the_midst_of_a_collective_ends_no_other() {
    type Collective = fn(&ProcessGroup, &Tensor, &Tensor) -> Result<(), Error>;
    let collectives: [(&str, Collective); 3] = [
        ("all_gather_into", |group, part, whole| group.all_gather_into(whole, part)),
        ("reduce_scatter_into", |group, part, whole| group.reduce_scatter_into(part, whole, ReduceOp::Sum)),
        ("all_reduce", |group, _, whole| group.all_reduce(whole, ReduceOp::Sum)),
    ];
    let asked = std::env::var("COLLECTIVE");
    if is_launched() {
        let group = ProcessGroup::from_env(TIMEOUT).unwrap();
        let asked = asked.unwrap();
        let (_, collective) = collectives.iter().find(|(name, _)| *name == asked).unwrap();
        let (part, whole) = (zeros(4_000_000), zeros(3 * 4_000_000));
        collective(&group, &part, &whole).unwrap();
        if group.rank() == 1 {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(150));
                // SAFETY: ends this process.
                unsafe { libc::raise(libc::SIGKILL) };
            });
        }
        let started = Instant::now();
        let error = loop {
            if let Err(error) = collective(&group, &part, &whole) {
                break error;
            }
        };
        let text = error.to_string();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(matches!(error, Error::PeerLost { .. }) && text.contains("not heard of: rank 1;"), "{text}");
        closed(&group, &text);
        return;
    }
    let test = &a_rank_killed_in_the_midst_of_a_collective_ends_no_other;
    for (name, _) in collectives {
        let outcome = launcher(3, test).env("COLLECTIVE", name).run().unwrap();
        let statuses = outcome.statuses();
        let told = || format!("{name}: {statuses:?}\n0: {}\n2: {}", outcome.output(0), outcome.output(2));
        assert_eq!(
            outcome.first_failure().map(|(rank, status)| (rank, status.signal())),
            Some((1, Some(9))),
            "{}",
            told()
        );
        assert!(statuses[0].success() && statuses[2].success(), "{}", told());
    }
}

#[test]
fn a_stalled_rank_is_an_error_at_the_timeout_and_closes_the_group() {
    if is_launched() {
        let group = impatient_group();
        let started = Instant::now();
        if group.rank() == 1 {
            std::thread::sleep(SHORT * 2 + Duration::from_millis(500));
        }
        let error = group.all_reduce(&zeros(10), ReduceOp::Sum).unwrap_err();
        let text = error.to_string();
        if group.rank() == 1 {
            assert!(matches!(error, Error::PeerLost { .. }), "{text}");
        } else {
            // The first to give up wakes the other.
            assert!(matches!(error, Error::TimedOut { .. } | Error::PeerLost { .. }), "{text}");
            assert!(
                text.contains("all_reduce(sum) of [10]") && text.contains("not heard of: rank 1"),
                "{text}"
            );
            assert!(started.elapsed() < SHORT * 2 + Duration::from_secs(2), "{:?}", started.elapsed());
        }
        closed(&group, &text);
        return;
    }
    let test = a_stalled_rank_is_an_error_at_the_timeout_and_closes_the_group;
    expect_success(&launcher(3, &test).run().unwrap());
}

#[test]
fn a_monitored_barrier_names_the_missing_ranks() {
    if is_launched() {
        let group = impatient_group();
        if group.rank() == 2 {
            std::thread::sleep(SHORT * 2);
        }
        let text = group.monitored_barrier().unwrap_err().to_string();
        if group.rank() == 0 {
            assert!(text.contains("rank 0: monitored_barrier") && text.contains("rank 2"), "{text}");
        }
        closed(&group, &text);
        return;
    }
    expect_success(&launcher(3, &a_monitored_barrier_names_the_missing_ranks).run().unwrap());
}

#[test]
fn ranks_that_never_come_are_named() {
    if is_launched() {
        if rank() == 0 {
            let text = ProcessGroup::from_env(SHORT).unwrap_err().to_string();
            assert!(text.contains("rank 0 of 3: cannot form a group at 127.0.0.1:"), "{text}");
            assert!(text.contains("not heard of: ranks 1, 2"), "{text}");
        }
        return;
    }
    expect_success(&launcher(3, &ranks_that_never_come_are_named).run().unwrap());
}

#[test]
fn without_a_store_connecting_is_an_error_at_the_timeout() {
    let port = StoreServer::host(0).unwrap().port();
    let started = Instant::now();
    let error = ProcessGroup::connect(1, 2, "127.0.0.1", port, SHORT).unwrap_err();
    assert!(matches!(error, Error::Connect { rank: 1, .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_rank_may_leave_as_soon_as_its_last_collective_returns() {
    // Rank 0 hosts the store here and leaves first.
    if is_launched() {
        let group = ProcessGroup::from_env(TIMEOUT).unwrap();
        group.barrier().unwrap();
        if group.rank() == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
        return;
    }
    let test = a_rank_may_leave_as_soon_as_its_last_collective_returns;
    let port = StoreServer::host(0).unwrap().port();
    let launcher = launcher(3, &test).output(Output::Captured);
    let outcome = launcher
        .env("MASTER_PORT", port.to_string())
        .env("TORCHELASTIC_USE_AGENT_STORE", "False")
        .run()
        .unwrap();
    expect_success(&outcome);
}

#[test]
fn one_process_may_form_several_groups_over_one_address() {
    on_ranks(&[2], |group| {
        let second = ProcessGroup::from_env(TIMEOUT).unwrap();
        second.barrier().unwrap();
        group.barrier().unwrap();
        drop(second);
        group.barrier().unwrap();
    });
}

#[test]
fn with_check_first_a_known_call_against_a_new_one_is_a_timeout() {
    if is_launched() {
        let group = impatient_group();
        group.all_reduce(&zeros(5000), ReduceOp::Sum).unwrap();
        group.all_reduce(&zeros(5000), ReduceOp::Sum).unwrap();
        let size = if group.rank() == 1 { 7000 } else { 5000 };
        let error = group.all_reduce(&zeros(size), ReduceOp::Sum).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. } | Error::PeerLost { .. }), "{error}");
        closed(&group, &error.to_string());
        return;
    }
    let test = with_check_first_a_known_call_against_a_new_one_is_a_timeout;
    expect_success(&launcher(2, &test).env("HESSIAN_PROBE_C10D_CHECK", "first").run().unwrap());
}

#[test]
fn ranks_that_check_differently_form_no_group() {
    if is_launched() {
        // SAFETY: no other thread of this process reads the environment now.
        unsafe { std::env::set_var("HESSIAN_PROBE_C10D_CHECK", ["always", "first"][rank()]) };
        let error = ProcessGroup::from_env(TIMEOUT).unwrap_err();
        assert!(
            matches!(error, Error::Mismatch { .. }) && error.to_string().contains("check first"),
            "{error}"
        );
        return;
    }
    expect_success(&launcher(2, &ranks_that_check_differently_form_no_group).run().unwrap());
}

fn rank() -> usize {
    std::env::var("RANK").unwrap().parse().unwrap()
}
