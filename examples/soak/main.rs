//! The soak test: a training over several ranks, with probes and checkpoints, to which faults happen at random
//! and which is started again until it is done. At the end its losses, parameters, moments and random states
//! must be, bit for bit, those of a run that had no fault, no probe and no checkpoint; and the logs must hold
//! every record that the probe was promised. `cargo xtask soak` runs it.
//!
//! - [`supervisor`]: session after session, and what must hold after each
//! - [`faults`]: the kinds of faults, drawn from a seed; [`damage`]: those done to files between sessions
//! - [`session`]: the processes of one session; [`signals`]: those that are sent to them
//! - [`worker`]: one rank; [`watched`]: its probe, to whose gradients something happens; [`disk`]: a full disk
//! - [`records`]: what ranks leave for the supervisor; [`curve`]: the losses
//! - [`verdict`]: the undisturbed run and the comparison; [`logs`]: what the probe logged, read back
//! - [`again`]: probes of steps that are computed again; [`report`]: the figures

mod again;
mod curve;
mod damage;
mod disk;
mod faults;
mod logs;
mod records;
mod report;
mod session;
mod signals;
mod supervisor;
mod verdict;
mod watched;
mod worker;

use clap::Parser;
use hessian_probe_c10d::is_launched;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What everything here returns.
type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[derive(Clone, Debug, Parser)]
#[command(name = "soak", about = "Train while faults happen at random; compare with an undisturbed run")]
struct Arguments {
    /// How long all of it may take, about
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// What the faults are drawn from [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// Ranks, at least 2
    #[arg(long, default_value_t = 2)]
    ranks: usize,
    /// Where `run`, `reference` and `report.json` go, in place of those of an earlier soak test
    #[arg(long, default_value = "target/soak")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let result = if is_launched() { worker::main() } else { supervise(Arguments::parse()) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(arguments: Arguments) -> Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = arguments.seed.unwrap_or(now.as_secs());
    if !(arguments.minutes > 0.0 && arguments.minutes <= 10_000.0 && arguments.ranks >= 2) {
        return Err("--minutes must be a positive number and --ranks at least 2: to lose one of one is no loss of a peer".into());
    }
    let time = Duration::from_secs_f64(60.0 * arguments.minutes);
    let report = supervisor::run(&arguments.dir, time, seed, arguments.ranks)?;
    report.print();
    let path = arguments.dir.join("report.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    println!("\nThese figures are in {}.", path.display());
    if report.violations.is_empty() {
        return Ok(());
    }
    // When exactly a signal arrives is up to the machine; which faults come in which order is not.
    Err(format!(
        "{} of the promises were not kept (above). The same faults again: cargo xtask soak --minutes {} --seed {seed} --ranks {}",
        report.violations.len(),
        arguments.minutes,
        arguments.ranks
    )
    .into())
}
