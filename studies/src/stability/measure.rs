//! Trains, with probes registered, and reads their logs.

use super::descent::{Descent, Rate};
use super::language::Training;
use super::record::{Log, Risen, Run, Study};
use crate::output::Output;
use crate::{Options, Result};
use hessian_probe::{HessianProbe, ProbeConfig};
use std::fs;
use std::path::Path;
use std::time::Instant;

const DESCENT: [Descent; 3] = [
    Descent { rate: Rate::constant(0.4), steps: 1500, seed: 0 },
    Descent { rate: Rate::constant(0.3), steps: 1500, seed: 0 },
    Descent { rate: Rate::constant(0.25), steps: 1500, seed: 0 },
];

/// So low that the edge is never reached: what λ_max does by itself.
const FREE: Descent = Descent { rate: Rate::constant(0.1), steps: 1500, seed: 0 };

const ADAM: [Training; 3] = [
    Training { learning_rate: 3e-3, steps: 240 },
    Training { learning_rate: 2e-3, steps: 300 },
    Training { learning_rate: 1e-3, steps: 400 },
];

/// Learning rates that rise, over the edge or not, and from how many initialisations each.
const FIRST: f64 = 0.1;
const OVER: f64 = 0.5;
const SAFE: f64 = 0.18;
const RISE: std::ops::Range<u64> = 100..300;
const STEPS: u64 = 400;
const SEEDS: std::ops::Range<u64> = 0..5;
const SAFE_SEEDS: std::ops::Range<u64> = 0..3;

/// Everything.
///
/// # Errors
/// Where a training or a probe fails.
pub fn run(options: &Options, output: &Output) -> Result<Study> {
    let runs = Runs { output, reuse: options.reuse };
    let descent = DESCENT.iter().map(|descent| runs.descent(descent)).collect::<Result<_>>()?;
    let adam = ADAM.iter().map(|training| runs.adam(training)).collect::<Result<_>>()?;
    let risen = |last: f64, seeds: std::ops::Range<u64>| {
        let rise = |seed| Descent { rate: Rate { first: FIRST, last, rise: RISE }, steps: STEPS, seed };
        seeds.map(|seed| runs.rise(&rise(seed))).collect::<Result<_>>()
    };
    Ok(Study {
        descent,
        free: runs.descent(&FREE)?,
        adam,
        driven: risen(OVER, SEEDS)?,
        control: risen(SAFE, SAFE_SEEDS)?,
    })
}

/// A probe with the configuration `toml` and its logs in `directory`.
fn probe(toml: &str, directory: &Path) -> Result<HessianProbe> {
    let mut config = ProbeConfig::from_toml_str(toml)?;
    config.log.dir = directory.into();
    Ok(HessianProbe::new(config)?)
}

struct Runs<'a> {
    output: &'a Output,
    reuse: bool,
}

impl Runs<'_> {
    fn descent(&self, descent: &Descent) -> Result<Run> {
        const PROBE: &str = include_str!("descent.toml");
        let rate = descent.rate.last;
        let log = self.logs(&format!("descent-{rate}"), &format!("{descent:?}"), PROBE, |directory| {
            descent.train(&mut [&mut probe(PROBE, directory)?])
        })?;
        Ok(Run::new(Log::read(&log)?, rate, descent.steps))
    }

    fn adam(&self, training: &Training) -> Result<Run> {
        const PROBE: &str = include_str!("adam.toml");
        let rate = training.learning_rate;
        let log = self.logs(&format!("adam-{rate}"), &format!("{training:?}"), PROBE, |directory| {
            training.train(&mut probe(PROBE, directory)?)
        })?;
        Ok(Run::new(Log::read(&log)?, rate, training.steps))
    }

    /// With two probes: in one, the first alarm would silence the other for a while.
    fn rise(&self, descent: &Descent) -> Result<Risen> {
        const PROBES: [&str; 2] = [include_str!("margin.toml"), include_str!("loss.toml")];
        let name = format!("rise-to-{}-seed-{}", descent.rate.last, descent.seed);
        let log = self.logs(&name, &format!("{descent:?}"), &PROBES.join("\n"), |directory| {
            let [margin, loss] = PROBES;
            let mut margin = probe(margin, &directory.join("margin"))?;
            descent.train(&mut [&mut margin, &mut probe(loss, &directory.join("loss"))?])
        })?;
        Risen::new(descent, Log::read(&log.join("margin"))?, &Log::read(&log.join("loss"))?)
    }

    /// Trains, unless the same run is there already; returns the directory that the probes write to.
    fn logs(
        &self,
        name: &str,
        settings: &str,
        configuration: &str,
        train: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<std::path::PathBuf> {
        let directory = self.output.path(name);
        let note = directory.join("settings");
        let settings = format!("{settings}\n{configuration}");
        if self.reuse && fs::read_to_string(&note).is_ok_and(|earlier| earlier == settings) {
            eprintln!("kept from an earlier run: {name}");
            return Ok(directory);
        }
        if directory.exists() {
            // A log is appended to.
            fs::remove_dir_all(&directory)?;
        }
        let started = Instant::now();
        train(&directory)?;
        eprintln!("{name}: {:.0} s", started.elapsed().as_secs_f64());
        fs::write(&note, settings)?;
        Ok(directory)
    }
}
