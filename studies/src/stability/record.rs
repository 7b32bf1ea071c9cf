//! What is kept of the probes' logs.

use crate::Result;
use hessian_probe::log::{JSONL_FILE, Record, read_jsonl};
use hessian_probe::optimizer::Stability;
use hessian_probe::triggers::Cause;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// All that the study measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Study {
    /// Gradient descent on the digits, at several learning rates.
    pub descent: Vec<Run>,
    /// Adam on the text, at several learning rates.
    pub adam: Vec<Run>,
    /// Adam on the text with a learning rate that rises over the edge, from several initialisations.
    pub driven: Vec<Alarmed>,
    /// The same with one that does not.
    pub control: Vec<Alarmed>,
}

/// A training under a probe's eyes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    /// The learning rate at the end of the warm-up.
    pub learning_rate: f64,
    pub warmup_steps: u64,
    pub steps: u64,
    pub seed: u64,
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
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Tracked {
    pub step: u64,
    /// After the step, on all of the data.
    pub loss: f64,
    pub lambda_max: f64,
    pub residual: f64,
    pub margin: f64,
}

/// A full probe.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Probed {
    pub step: u64,
    pub lambda_max: f64,
    pub residual: f64,
    pub margin: f64,
    /// The change of the loss along the last update, made once more: by the quadratic model, and measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<(f64, f64)>,
}

/// A training that two probes watch: one for the margin, one for the loss.
#[derive(Debug, Serialize, Deserialize)]
pub struct Alarmed {
    pub run: Run,
    /// Step, and the share of the critical step that it takes.
    pub step_ratios: Vec<(u64, f64)>,
    /// `triggers.margin`, and the steps at which it started a probe.
    pub margin_limit: f64,
    pub margin_alarms: Vec<u64>,
    /// `triggers.loss_spike`, and the steps at which it did.
    pub loss_limit: f64,
    pub loss_alarms: Vec<u64>,
}

/// The records of one probe.
#[derive(Debug, Default)]
pub struct Log {
    pub parameters: u64,
    pub targets: u64,
    pub threshold: f64,
    pub tracked: Vec<Tracked>,
    pub probed: Vec<Probed>,
    pub step_ratios: Vec<(u64, f64)>,
    pub margin_alarms: Vec<u64>,
    pub loss_alarms: Vec<u64>,
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
        let margin = |stability: Option<&Stability>| stability.and_then(|stability| stability.margin);
        match record {
            Record::Session(session) => self.parameters = session.parameters,
            Record::Tracked(found) => {
                let stability = found.stability.as_ref();
                self.threshold = stability.and_then(|stability| stability.threshold).unwrap_or(self.threshold);
                self.tracked.push(Tracked {
                    step: found.step,
                    loss: rounded(found.loss),
                    lambda_max: rounded(found.lambda_max.value),
                    residual: rounded(found.lambda_max.residual),
                    margin: rounded(margin(stability).ok_or("a tracked eigenvalue without its margin")?),
                });
            }
            Record::Snapshot(found) => {
                self.targets = found.tokens.unwrap_or(0);
                let update = found.directions.and_then(|directions| directions.update);
                // Only of a probe for the margin.
                let Some(margin) = found.margin() else { return Ok(()) };
                self.probed.push(Probed {
                    step: found.step,
                    lambda_max: rounded(found.lambda_max.value),
                    residual: rounded(found.lambda_max.residual),
                    margin: rounded(margin),
                    change: update.map(|update| (rounded(update.predicted_change), rounded(update.measured_change))),
                });
            }
            Record::Sharpness(found) => {
                self.step_ratios.extend(found.step_ratio_at_least().map(|ratio| (found.step, rounded(ratio))));
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

/// The share of a run at its end in which it has settled, if it does.
const SETTLED: f64 = 1.0 / 3.0;

/// By how much the loss must have risen above its lowest for anyone to see it.
const SEEN: f64 = 0.02;

impl Run {
    /// The margins that were tracked in the last third.
    pub fn settled(&self) -> Vec<f64> {
        let start = self.steps as f64 * (1.0 - SETTLED);
        let last = self.tracked.iter().filter(|tracked| tracked.step as f64 >= start);
        let mut margins: Vec<f64> = last.map(|tracked| tracked.margin).collect();
        margins.sort_by(f64::total_cmp);
        margins
    }

    /// The first margin.
    pub fn start(&self) -> f64 {
        self.probed.first().map_or(f64::NAN, |probed| probed.margin)
    }

    /// The last margin of a full probe.
    pub fn end(&self) -> f64 {
        self.probed.last().map_or(f64::NAN, |probed| probed.margin)
    }

    /// The first step from which on the margin is above `limit` for as long as the learning rate is at its last value or rises.
    pub fn above(&self, limit: f64) -> Option<u64> {
        self.tracked.iter().find(|tracked| tracked.margin > limit).map(|tracked| tracked.step)
    }

    /// The first step after which the loss is above the lowest before it by so much that one sees it.
    pub fn rise(&self) -> Option<u64> {
        let mut lowest = f64::INFINITY;
        let risen = self.tracked.iter().find(|tracked| {
            let risen = tracked.loss > (1.0 + SEEN) * lowest;
            lowest = lowest.min(tracked.loss);
            risen
        });
        risen.map(|tracked| tracked.step)
    }
}

/// Of sorted values, the one below which the share `q` lies.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * sorted.len().saturating_sub(1) as f64;
    sorted.get(place.round() as usize).copied().unwrap_or(f64::NAN)
}
