//! `on_step_end` where no probe is due: what every step of training pays.

use crate::Result;
use crate::case::Case;
use crate::report::{median, quantile};
use hessian_probe::Callback;
use hessian_probe::schedule::Duration;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Calls one after the other.
const WARM: u64 = 20_000;
/// Calls with other work between them, which empties the caches as a step of training does.
const COLD: u64 = 300;
/// Larger than any cache that matters.
const OTHER_WORK: usize = 64 << 20;

/// Microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallTimes {
    pub median: f64,
    pub percentile_99: f64,
    pub cold_median: f64,
    pub cold_percentile_99: f64,
}

pub fn measure(case: &Case) -> Result<CallTimes> {
    let mut trainer = case.trainer(case.group()?)?;
    trainer.step()?;
    let (mut probe, _directory) = case.probe(|config| {
        config.schedule.every = Some(Duration::Steps(1 << 40));
        config.schedule.at = vec![Duration::Tokens(1 << 50), Duration::Steps(1 << 40)];
    })?;
    probe.on_train_begin(&mut trainer)?;
    probe.on_step_end(1, &mut trainer)?;
    let mut step = 1;
    let mut call = || -> Result<f64> {
        step += 1;
        let started = Instant::now();
        probe.on_step_end(step, &mut trainer)?;
        Ok(started.elapsed().as_secs_f64() * 1e6)
    };
    let warm = (0..WARM).map(|_| call()).collect::<Result<Vec<_>>>()?;
    let mut other = vec![0_u8; OTHER_WORK];
    let mut cold = Vec::new();
    for _ in 0..COLD {
        other.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
        std::hint::black_box(&mut other);
        cold.push(call()?);
    }
    Ok(CallTimes {
        median: median(&warm),
        percentile_99: quantile(&warm, 0.99),
        cold_median: median(&cold),
        cold_percentile_99: quantile(&cold, 0.99),
    })
}
