//! How long probes take, in gradients of training.

use crate::Result;
use crate::case::Case;
use crate::instrumented::Instrumented;
use crate::report::median;
use hessian_probe::config::{Difference, Reorthogonalize};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The configurations that are measured.
pub const SCHEMES: [(&str, Difference, Reorthogonalize); 3] = [
    ("auto, full", Difference::Auto, Reorthogonalize::Full),
    ("central, full", Difference::Central, Reorthogonalize::Full),
    ("auto, none", Difference::Auto, Reorthogonalize::None),
];

#[derive(Debug, Serialize, Deserialize)]
pub struct Times {
    pub parameters: u64,
    /// Entries on rank 0.
    pub shard: u64,
    pub probes: Vec<ProbeTime>,
}

/// One probe.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProbeTime {
    /// An index into [`SCHEMES`].
    pub scheme: usize,
    pub seconds: f64,
    pub gradients: u64,
    /// Of these, those that measured the noise.
    pub calibration_gradients: u64,
    /// Seconds in gradients.
    pub gradient_seconds: f64,
    pub gradient_median: f64,
    /// Of training's own backward passes over a batch of the same size, in between.
    pub backward_median: f64,
    /// The median deviation of these from their median, as a share: the machine's noise.
    pub backward_spread: f64,
    pub reducing_seconds: f64,
}

impl ProbeTime {
    /// The time of the probe ÷ (its gradients × one of training).
    pub fn relative(&self) -> f64 {
        self.seconds / (self.gradients as f64 * self.backward_median)
    }

    /// The same with all sums replaced by medians: an interruption of some gradients does not count.
    pub fn relative_of_medians(&self) -> f64 {
        (1.0 + self.overhead()) * self.gradient_median / self.backward_median
    }

    /// What is not spent in gradients, in units of what is.
    pub fn overhead(&self) -> f64 {
        self.seconds / self.gradient_seconds - 1.0
    }
}

pub fn measure(case: &Case, rounds: usize, schemes: usize) -> Result<Times> {
    let group = case.group()?;
    let second = case.second_group(&group)?;
    let mut host = Instrumented::new(case.trainer(group)?, Some(case.trainer(second)?));
    // Buffers that are made on first use.
    host.probed.step()?;
    host.train()?;
    let mut probes = Vec::new();
    let mut callbacks = Vec::new();
    for (_, difference, reorthogonalize) in SCHEMES.into_iter().take(schemes) {
        callbacks.push(case.probe(|config| {
            config.hvp.difference = difference;
            config.slq.reorthogonalize = reorthogonalize;
        })?);
    }
    let mut shard = 0;
    for round in 0..rounds as u64 {
        for (scheme, (probe, _)) in callbacks.iter_mut().enumerate() {
            host.log.take();
            let started = Instant::now();
            let cost = probe.probe(round, &mut host)?.cost.clone();
            let seconds = started.elapsed().as_secs_f64();
            let log = host.log.take();
            let backward = median(&log.backwards);
            let deviations: Vec<f64> = log.backwards.iter().map(|time| (time - backward).abs()).collect();
            shard = cost.basis_bytes / 4 / reorthogonalized_rows(SCHEMES[scheme].2, case.steps);
            probes.push(ProbeTime {
                scheme,
                seconds: seconds - log.paused,
                gradients: log.gradients.len() as u64,
                calibration_gradients: cost.calibration_gradients,
                gradient_seconds: log.gradients.iter().sum(),
                gradient_median: median(&log.gradients),
                backward_median: backward,
                backward_spread: median(&deviations) / backward,
                reducing_seconds: log.reducing,
            });
        }
    }
    Ok(Times { parameters: host.probed.parameter_count(), shard, probes })
}

fn reorthogonalized_rows(reorthogonalize: Reorthogonalize, steps: usize) -> u64 {
    reorthogonalize.basis_vectors(steps) as u64
}
