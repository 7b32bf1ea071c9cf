//! Which cases are measured, and the processes that measure them.

use crate::Result;
use crate::case::{Case, LARGEST, RESULT, Task};
use crate::memory::{MALLOC, Memories};
use crate::options::Options;
use crate::report::Report;
use crate::time::Times;
use hessian_probe_c10d::{Launcher, Output};
use serde::de::DeserializeOwned;
use std::process::Command;

pub fn run(options: &Options) -> Result<Report> {
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for size in options.sizes()? {
        for &world_size in &options.ranks {
            // In one process it would not fit, in four there is nothing to learn.
            if size.name == LARGEST && world_size != 2 {
                continue;
            }
            let task = Task::Time { rounds: options.rounds as usize };
            let case = Case { task, size: size.clone(), world_size, threads: options.threads };
            times.push((case.clone(), measure::<Times>(&case, &[])?));
            let case = Case { task: Task::Memory, ..case };
            memories.push((case.clone(), measure::<Memories>(&case, &MALLOC)?));
        }
    }
    Report::new(times, memories)
}

/// Runs a case in a process of its own, or one for each rank, and reads rank 0's result.
fn measure<T: DeserializeOwned>(case: &Case, environment: &[(&str, &str)]) -> Result<T> {
    eprintln!("measuring {} {:?}", case.place(), case.task);
    let text = serde_json::to_string(case)?;
    let threads = case.threads.to_string();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--worker", &text])
        .env("OMP_NUM_THREADS", &threads)
        .env("MKL_NUM_THREADS", &threads)
        .envs(environment.iter().copied());
    let output = if case.world_size == 1 {
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        text
    } else {
        let outcome = Launcher::new(case.world_size).command(command).output(Output::Captured).run()?;
        if let Some((rank, status)) = outcome.first_failure() {
            return Err(format!("{text}: rank {rank}, {status}: {}", outcome.output(rank)).into());
        }
        outcome.output(0)
    };
    let line = output.lines().find_map(|line| line.strip_prefix(RESULT));
    Ok(serde_json::from_str(line.ok_or_else(|| format!("no result in: {output}"))?)?)
}
