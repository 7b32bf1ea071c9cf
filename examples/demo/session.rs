//! What the demos have in common: their ranks, their probe, and the run that it watches.

use crate::display::Display;
use hessian_probe::{HessianProbe, ProbeConfig};
use hessian_probe_c10d::{Launcher, Output, is_launched};
use hessian_probe_fsdp::Trainer;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs `rank` in this process if it is a rank, or starts `ranks` of them.
pub fn on_ranks(
    ranks: usize,
    rank: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    if is_launched() {
        return rank();
    }
    Ok(Launcher::new(ranks).output(Output::Inherited).run()?.into_result()?)
}

/// The probe of a configuration file, with its logs in `logdir` if that is given.
pub fn probe(file: &Path, logdir: Option<&PathBuf>) -> Result<HessianProbe, Box<dyn Error>> {
    let mut config = ProbeConfig::from_toml(file)?;
    if let Some(directory) = logdir {
        config.log.dir.clone_from(directory);
    }
    Ok(HessianProbe::new(config)?)
}

/// Trains and shows what the probe saw.
pub fn watch(
    trainer: &mut Trainer,
    probe: &mut HessianProbe,
    display: &Display,
    steps: u64,
) -> Result<(), Box<dyn Error>> {
    display.model(trainer);
    let started = Instant::now();
    trainer.run(steps, &mut [probe], |report| display.step(report))?;
    display.end(probe.config(), started.elapsed())
}
