//! Tests that run on several ranks: real processes, real sockets, one command.

#![allow(dead_code)]

use hessian_probe_c10d::{Launcher, Outcome, Output, ProcessGroup, is_launched};
use std::process::Command;
use std::time::Duration;

pub const TIMEOUT: Duration = Duration::from_secs(20);

/// A launcher whose ranks run the calling test, and that test only: `body` names it by its type.
pub fn launcher<F>(world_size: usize, body: &F) -> Launcher {
    let _ = body;
    let path = std::any::type_name::<F>();
    let name = path.trim_end_matches("::{{closure}}").split_once("::").expect("a test in a crate").1;
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    Launcher::new(world_size).command(command).output(Output::Captured)
}

/// In the test process, starts itself on each of `world_sizes` ranks and checks that all succeed; in
/// those ranks, runs `body`.
pub fn on_ranks<F: Fn(&ProcessGroup)>(world_sizes: &[usize], body: F) {
    if is_launched() {
        tch::set_num_threads(1);
        body(&ProcessGroup::from_env(TIMEOUT).expect("a group"));
        return;
    }
    for &world_size in world_sizes {
        expect_success(&launcher(world_size, &body).run().expect("ranks"));
    }
}

pub fn expect_success(outcome: &Outcome) {
    if let Some((rank, status)) = outcome.first_failure() {
        for rank in 0..outcome.statuses().len() {
            eprintln!("--- rank {rank}\n{}", outcome.output(rank));
        }
        panic!("rank {rank} failed first: {status}");
    }
}

pub fn number(value: usize) -> f64 {
    f64::from(u32::try_from(value).expect("a small number"))
}
