//! Trains, with probes registered, and reads their logs.

use super::descent::Descent;
use super::language::Training;
use super::record::{Alarmed, Log, Run, Study};
use crate::output::Output;
use crate::{Options, Result};
use hessian_probe::{Callback, HessianProbe, ProbeConfig};
use std::fs;
use std::path::Path;
use std::time::Instant;

const DESCENT: [Descent; 3] = [
    Descent { learning_rate: 0.4, steps: 4000 },
    Descent { learning_rate: 0.2, steps: 6000 },
    Descent { learning_rate: 0.1, steps: 10000 },
];

const ADAM: [Training; 3] = [
    Training { learning_rate: 2e-3, warmup_steps: 0, steps: 1000, seed: 0 },
    Training { learning_rate: 1e-3, warmup_steps: 0, steps: 1000, seed: 0 },
    Training { learning_rate: 5e-4, warmup_steps: 0, steps: 1500, seed: 0 },
];

/// Over the edge within the warm-up.
const DRIVEN: f64 = 3e-2;
const SAFE: f64 = 3e-3;
const RISE: u64 = 300;
const SEEDS: std::ops::Range<u64> = 0..3;

/// Everything.
///
/// # Errors
/// Where a training or a probe fails.
pub fn run(options: &Options, output: &Output) -> Result<Study> {
    let runs = Runs { output, reuse: options.reuse };
    let descent = DESCENT.iter().map(|descent| runs.descent(descent)).collect::<Result<_>>()?;
    let adam = ADAM.iter().map(|training| runs.adam(training)).collect::<Result<_>>()?;
    let risen = |learning_rate: f64| {
        let training = |seed| Training { learning_rate, warmup_steps: RISE, steps: RISE, seed };
        SEEDS.map(|seed| runs.alarmed(&training(seed))).collect::<Result<Vec<_>>>()
    };
    Ok(Study { descent, adam, driven: risen(DRIVEN)?, control: risen(SAFE)? })
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
        let name = format!("descent-{}", descent.learning_rate);
        let [log] = self.logs(&name, &format!("{descent:?}"), [PROBE], |[probe]| descent.train(probe))?;
        Ok(Run::new(log, descent.learning_rate, 0, descent.steps, 0))
    }

    fn adam(&self, training: &Training) -> Result<Run> {
        const PROBE: &str = include_str!("adam.toml");
        let name = format!("adam-{}", training.learning_rate);
        let [log] =
            self.logs(&name, &format!("{training:?}"), [PROBE], |[probe]| training.train(&mut [probe]))?;
        Ok(training.run(log))
    }

    fn alarmed(&self, training: &Training) -> Result<Alarmed> {
        const PROBES: [&str; 2] = [include_str!("margin.toml"), include_str!("loss.toml")];
        let name = format!("rise-to-{}-seed-{}", training.learning_rate, training.seed);
        let [mut margin, loss] = self.logs(&name, &format!("{training:?}"), PROBES, |[margin, loss]| {
            let probes: &mut [&mut dyn Callback] = &mut [margin, loss];
            training.train(probes)
        })?;
        let [margin_limit, loss_limit] = PROBES.map(|toml| {
            let triggers = ProbeConfig::from_toml_str(toml).map(|config| config.triggers);
            triggers.ok().and_then(|triggers| triggers.margin.or(triggers.loss_spike)).unwrap_or(f64::NAN)
        });
        Ok(Alarmed {
            step_ratios: std::mem::take(&mut margin.step_ratios),
            margin_limit,
            margin_alarms: std::mem::take(&mut margin.margin_alarms),
            loss_limit,
            loss_alarms: loss.loss_alarms,
            run: training.run(margin),
        })
    }

    /// Trains with a probe for each configuration, unless the same run is there already, and reads what they wrote.
    fn logs<const N: usize>(
        &self,
        name: &str,
        settings: &str,
        configurations: [&str; N],
        train: impl FnOnce([&mut HessianProbe; N]) -> Result<()>,
    ) -> Result<[Log; N]> {
        let directory = self.output.path(name);
        let places = std::array::from_fn::<_, N, _>(|number| directory.join(format!("probe-{number}")));
        let note = directory.join("settings");
        let settings = format!("{settings}\n{}", configurations.join("\n"));
        if self.reuse && fs::read_to_string(&note).is_ok_and(|earlier| earlier == settings) {
            eprintln!("kept from an earlier run: {name}");
        } else {
            if directory.exists() {
                // A log is appended to.
                fs::remove_dir_all(&directory)?;
            }
            let started = Instant::now();
            let mut probes = Vec::new();
            for (toml, place) in configurations.iter().zip(&places) {
                probes.push(probe(toml, place)?);
            }
            let Ok(mut probes) = <[HessianProbe; N]>::try_from(probes) else { return Err("as many probes".into()) };
            train(probes.each_mut())?;
            eprintln!("{name}: {:.0} s", started.elapsed().as_secs_f64());
            drop(probes);
            fs::write(&note, settings)?;
        }
        let mut logs = Vec::new();
        for place in &places {
            logs.push(Log::read(place)?);
        }
        <[Log; N]>::try_from(logs).map_err(|_| "as many logs".into())
    }
}

impl Training {
    fn run(&self, log: Log) -> Run {
        Run::new(log, self.learning_rate, self.warmup_steps, self.steps, self.seed)
    }
}

impl Run {
    fn new(log: Log, learning_rate: f64, warmup_steps: u64, steps: u64, seed: u64) -> Self {
        let Log { parameters, targets, threshold, tracked, probed, .. } = log;
        Self { learning_rate, warmup_steps, steps, seed, parameters, targets, threshold, tracked, probed }
    }
}
