//! `--ranks N`: this program again, N times.

use crate::failure::{self, FAILED};
use crate::signals;
use hessian_probe_c10d::{Forward, Launcher};
use std::process::{ExitCode, ExitStatus};

/// This process's rank, as torchrun or the launcher says; 0 where there is none.
pub fn rank() -> usize {
    std::env::var("RANK").ok().and_then(|rank| rank.parse().ok()).unwrap_or(0)
}

/// Starts the ranks and ends as the first of them that failed did: that rank, or rank 0, has said why.
pub fn run(ranks: usize) -> ExitCode {
    let forward = Forward::default();
    if let Err(error) = signals::forward_to_ranks(&forward) {
        return failure::say(&error);
    }
    match Launcher::new(ranks).forward(&forward).run() {
        Err(error) => failure::say(&error),
        Ok(outcome) => match outcome.first_failure() {
            None => ExitCode::SUCCESS,
            Some((rank, status)) => ended(rank, status),
        },
    }
}

fn ended(rank: usize, status: ExitStatus) -> ExitCode {
    if let Some(code) = status.code() {
        return ExitCode::from(u8::try_from(code).unwrap_or(FAILED));
    }
    match signal(status) {
        // It was not yet listening.
        Some(signal) if signals::ENDING.contains(&signal) => signals::exit_code(signal),
        _ => failure::say(&format!("rank {rank} was ended from outside ({status}); is memory short?")),
    }
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_status: ExitStatus) -> Option<i32> {
    None
}
