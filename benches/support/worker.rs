//! Processes that measure one case, and what they tell.

use super::Result;
use hessian_probe_c10d::{Launcher, Output, ProcessGroup};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::process::Command;
use std::time::Duration;

/// What the line of a worker with its result starts with.
const RESULT: &str = "result of the case: ";

/// Prints what a worker found.
pub fn tell(result: &impl Serialize) -> Result<()> {
    println!("{RESULT}{}", serde_json::to_string(result)?);
    Ok(())
}

/// A worker's ranks, as the environment describes them; they wait for each other so long.
pub fn group(ranks: usize, timeout: Duration) -> Result<ProcessGroup> {
    Ok(if ranks == 1 { ProcessGroup::single() } else { ProcessGroup::from_env(timeout)? })
}

/// Runs a case in a process of its own, or one for each rank, with so many threads each, and reads rank 0's result. The
/// process is this program again, told to be a `worker` with that argument, and the case as JSON.
pub fn measure<T: DeserializeOwned>(
    worker: &str,
    case: &impl Serialize,
    (ranks, threads): (usize, usize),
    environment: &[(&str, &str)],
) -> Result<T> {
    let case = serde_json::to_string(case)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([worker, &case])
        .env("OMP_NUM_THREADS", threads.to_string())
        .env("MKL_NUM_THREADS", threads.to_string())
        .envs(environment.iter().copied());
    let output = if ranks == 1 {
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{case}: {}{text}", String::from_utf8_lossy(&output.stderr)).into());
        }
        text
    } else {
        let outcome = Launcher::new(ranks).command(command).output(Output::Captured).run()?;
        if let Some((rank, status)) = outcome.first_failure() {
            return Err(format!("{case}: rank {rank}, {status}: {}", outcome.output(rank)).into());
        }
        outcome.output(0)
    };
    let line = output.lines().find_map(|line| line.strip_prefix(RESULT));
    Ok(serde_json::from_str(line.ok_or_else(|| format!("no result in: {output}"))?)?)
}
