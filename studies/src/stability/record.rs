//! What is kept of the probes' logs.

use super::descent::Descent;
use crate::Result;
use hessian_probe::log::{JSONL_FILE, Record, read_jsonl};
use hessian_probe::triggers::Cause;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// All that the study measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Study {
    /// Gradient descent on the digits, at several learning rates.
    pub descent: Vec<Run>,
    /// The same at one that is never at the edge.
    pub free: Run,
    /// Adam on the text, at several learning rates.
    pub adam: Vec<Run>,
    /// Gradient descent with a learning rate that rises over the edge, from several initialisations.
    pub driven: Vec<Risen>,
    /// The same with one that does not.
    pub control: Vec<Risen>,
}

/// A training at one learning rate.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub learning_rate: f64,
    pub steps: u64,
    pub parameters: u64,
    /// Targets of the loss, all of which every step has.
    pub targets: u64,
    /// The largest eigenvalue that the optimizer bears, at the end.
    pub threshold: f64,
    /// What `[track]` found.
    pub tracked: Vec<Tracked>,
    /// What full probes found.
    pub probed: Vec<Probed>,
}

/// λ_max at one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tracked {
    pub step: u64,
    /// After the step, on all of the data.
    pub loss: f64,
    pub lambda_max: f64,
    pub margin: f64,
}

/// A full probe.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Probed {
    pub step: u64,
    pub lambda_max: f64,
    pub residual: f64,
    pub margin: f64,
}

/// A training whose learning rate rises, watched by two probes: one for the margin, one for the loss.
#[derive(Debug, Serialize, Deserialize)]
pub struct Risen {
    pub first_rate: f64,
    pub last_rate: f64,
    /// Between these steps.
    pub rise: (u64, u64),
    pub steps: u64,
    pub seed: u64,
    /// For each of [`LIMITS`] the first step at which the margin was above it.
    pub above: Vec<Option<u64>>,
    /// The first step at which this one's share of the critical step was above 1.
    pub ratio_above: Option<u64>,
    /// The first step at which `[triggers] margin` started a probe.
    pub margin_alarm: Option<u64>,
    /// The first step at which `[triggers] loss_spike` did: that of the loss which was one, before the step.
    pub loss_alarm: Option<u64>,
    /// The first step after which the loss was above the lowest one before by [`SEEN`].
    pub rise_seen: Option<u64>,
    /// The lowest loss before that, and the highest after it.
    pub lowest: f64,
    pub highest: f64,
    /// The largest margin.
    pub largest_margin: f64,
    /// Of the first initialisation: everything, and for each step the share of the critical step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracked: Vec<Tracked>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step_ratios: Vec<(u64, f64)>,
    /// At each full probe.
    pub changes: Vec<Change>,
}

/// What the coming update does to the loss.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Change {
    pub step: u64,
    pub margin: f64,
    /// By the quadratic model.
    pub predicted: f64,
    pub measured: f64,
}

/// Limits of the margin that one may set.
pub const LIMITS: [f64; 5] = [0.9, 1.0, 1.1, 1.2, 1.5];

/// By how much a loss must be above the lowest for anyone to see it.
pub const SEEN: f64 = 0.02;

/// The share of a run at its end in which it has settled, if it does.
const SETTLED: f64 = 1.0 / 3.0;

impl Run {
    pub fn new(log: Log, learning_rate: f64, steps: u64) -> Self {
        let Log { parameters, targets, threshold, tracked, probed, .. } = log;
        Self { learning_rate, steps, parameters, targets, threshold, tracked, probed }
    }

    /// The margins that were tracked in the last third, sorted.
    pub fn settled(&self) -> Vec<f64> {
        let start = self.steps as f64 * (1.0 - SETTLED);
        let last = self.tracked.iter().filter(|tracked| tracked.step as f64 >= start);
        let mut margins: Vec<f64> = last.map(|tracked| tracked.margin).collect();
        margins.sort_by(f64::total_cmp);
        margins
    }

    /// The lowest margin before it first comes to the edge.
    pub fn lowest(&self) -> f64 {
        let margins = self.tracked.iter().map(|tracked| tracked.margin);
        margins.take_while(|margin| *margin < 1.0).fold(f64::INFINITY, f64::min)
    }

    /// The first step at which the margin was above 1.
    pub fn arrival(&self) -> Option<u64> {
        self.tracked.iter().find(|tracked| tracked.margin > 1.0).map(|tracked| tracked.step)
    }
}

impl Risen {
    pub fn new(descent: &Descent, margin: Log, loss: &Log) -> Result<Self> {
        let Log { tracked, step_ratios, changes, .. } = margin;
        let first = |of: &dyn Fn(&Tracked) -> bool| tracked.iter().find(|it| of(it)).map(|it| it.step);
        let mut lowest = f64::INFINITY;
        let mut rise_seen = None;
        for it in &tracked {
            if it.loss > (1.0 + SEEN) * lowest {
                rise_seen = Some(it.step);
                break;
            }
            lowest = lowest.min(it.loss);
        }
        let after = tracked.iter().filter(|it| rise_seen.is_none_or(|step| it.step >= step));
        let rate = &descent.rate;
        Ok(Self {
            first_rate: rate.first,
            last_rate: rate.last,
            rise: (rate.rise.start, rate.rise.end),
            steps: descent.steps,
            seed: descent.seed,
            above: LIMITS.iter().map(|limit| first(&|it| it.margin > *limit)).collect(),
            ratio_above: step_ratios.iter().find(|(_, ratio)| *ratio > 1.0).map(|(step, _)| *step),
            margin_alarm: margin.margin_alarms.first().copied(),
            loss_alarm: loss.loss_alarms.first().copied(),
            rise_seen,
            lowest,
            highest: after.map(|it| it.loss).fold(f64::NEG_INFINITY, f64::max),
            largest_margin: tracked.iter().map(|it| it.margin).fold(f64::NEG_INFINITY, f64::max),
            tracked: if descent.seed == 0 { tracked } else { Vec::new() },
            step_ratios: if descent.seed == 0 { step_ratios } else { Vec::new() },
            changes,
        })
    }

    /// The first step at which the margin was above `limit`, one of [`LIMITS`].
    pub fn first_above(&self, limit: f64) -> Option<u64> {
        let place = LIMITS.iter().position(|known| *known == limit)?;
        self.above.get(place).copied().flatten()
    }

    /// The steps from the first margin above `limit` to a loss that anyone sees rise.
    pub fn warning_of(&self, limit: f64) -> Option<i64> {
        Some(self.rise_seen?.cast_signed() - self.first_above(limit)?.cast_signed())
    }

    /// The steps from the alarm by the margin to a loss that anyone sees rise, or that is an alarm, whichever comes first.
    pub fn warning(&self) -> Option<i64> {
        let seen = self.rise_seen.into_iter().chain(self.loss_alarm).min()?;
        Some(seen.cast_signed() - self.margin_alarm?.cast_signed())
    }
}

/// Of sorted values, the one below which the share `q` lies.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * sorted.len().saturating_sub(1) as f64;
    sorted.get(place.round() as usize).copied().unwrap_or(f64::NAN)
}

/// The records of one probe.
#[derive(Debug, Default)]
pub struct Log {
    parameters: u64,
    targets: u64,
    threshold: f64,
    tracked: Vec<Tracked>,
    probed: Vec<Probed>,
    step_ratios: Vec<(u64, f64)>,
    changes: Vec<Change>,
    margin_alarms: Vec<u64>,
    loss_alarms: Vec<u64>,
}

impl Log {
    /// What the probe with its logs in `directory` wrote.
    ///
    /// # Errors
    /// Where a line is no record, or a probe was skipped: then something is missing.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut log = Self::default();
        for record in read_jsonl(directory.join(JSONL_FILE))? {
            log.add(record?)?;
        }
        Ok(log)
    }

    fn add(&mut self, record: Record) -> Result<()> {
        match record {
            Record::Session(session) => self.parameters = session.parameters,
            Record::Tracked(found) => {
                let stability = found.stability.ok_or("a tracked eigenvalue without its threshold")?;
                self.threshold = stability.threshold.unwrap_or(f64::NAN);
                self.tracked.push(Tracked {
                    step: found.step,
                    loss: rounded(found.loss),
                    lambda_max: rounded(found.lambda_max.value),
                    margin: rounded(stability.margin.unwrap_or(f64::NAN)),
                });
            }
            Record::Snapshot(found) => {
                self.targets = found.tokens.unwrap_or(0);
                let margin = rounded(found.margin().ok_or("a probe without its margin")?);
                let update = found.directions.and_then(|directions| directions.update);
                self.changes.extend(update.map(|update| Change {
                    step: found.step,
                    margin,
                    predicted: rounded(update.predicted_change),
                    measured: rounded(update.measured_change),
                }));
                self.probed.push(Probed {
                    step: found.step,
                    lambda_max: rounded(found.lambda_max.value),
                    residual: rounded(found.lambda_max.residual),
                    margin,
                });
            }
            Record::Sharpness(found) => {
                let ratio = found.step_ratio_at_least();
                self.step_ratios.extend(ratio.map(|ratio| (found.step, rounded(ratio))));
            }
            Record::Triggered(found) => {
                for cause in &found.causes {
                    match cause {
                        Cause::Margin { .. } => self.margin_alarms.push(found.step),
                        Cause::LossSpike { .. } => self.loss_alarms.push(found.step),
                        other => return Err(format!("step {}: {other}", found.step).into()),
                    }
                }
            }
            Record::Skipped(skipped) => {
                return Err(format!("step {}: no probe: {}", skipped.step, skipped.reason).into());
            }
            other => return Err(format!("a record of another kind: {other:?}").into()),
        }
        Ok(())
    }
}

/// To six digits, which is more than any of these numbers is good for.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}
