//! What one Hessian-vector product takes, in gradients, in turn within one process.

use crate::Result;
use crate::case::Case;
use crate::instrumented::Instrumented;
use crate::report::median;
use hessian_probe::config::{Difference, Distribution, HvpConfig};
use hessian_probe::krylov::Operator;
use hessian_probe::operator::{Calibration, FiniteDifference, Start};
use hessian_probe::sharded::random::RandomProbe;
use hessian_probe::sharded::{Layout, ShardedVector};
use hessian_probe::{Host, Interrupter};
use serde::{Deserialize, Serialize};
use std::time::Instant;
use tch::Tensor;

/// Seconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Products {
    pub gradient: Vec<f64>,
    pub forward: Vec<f64>,
    pub central: Vec<f64>,
}

impl Products {
    /// One of these in gradients, of medians.
    pub fn in_gradients(&self, products: &[f64]) -> f64 {
        median(products) / median(&self.gradient)
    }
}

pub fn measure(case: &Case, rounds: usize) -> Result<Products> {
    let mut trainer = case.trainer(case.group()?)?;
    trainer.step()?;
    let mut host = Instrumented::new(trainer, None);
    let layout = Layout::new(&host, None)?;
    let start = ShardedVector::zeros(&layout)?.tensor().shallow_clone();
    RandomProbe::new(0, 0, Distribution::Rademacher).write_scaled(&layout, &start)?;
    let mut product = ShardedVector::zeros(&layout)?.tensor().shallow_clone();
    let mut calibration = Calibration::default();
    let mut found = Products::default();
    // The first round measures the noise, and makes buffers.
    for round in 0..=rounds {
        let started = Instant::now();
        host.gradient()?;
        let gradient = started.elapsed().as_secs_f64();
        let mut timed =
            |difference| seconds(&mut host, &layout, difference, &mut calibration, &start, &mut product);
        let (forward, central) = (timed(Difference::Forward)?, timed(Difference::Central)?);
        if round > 0 {
            found.gradient.push(gradient);
            // One that was computed again for a better step has another price.
            found.forward.extend(forward);
            found.central.extend(central);
        }
    }
    Ok(found)
}

/// Of the third product of a run, whose step follows from earlier ones (the second is central, to measure the parity);
/// none where it took more gradients than its formula.
fn seconds(
    host: &mut Instrumented,
    layout: &Layout,
    difference: Difference,
    calibration: &mut Calibration,
    start: &Tensor,
    product: &mut Tensor,
) -> Result<Option<f64>> {
    let config = HvpConfig { difference, recalibrate_every: u64::MAX, ..HvpConfig::default() };
    let (log, never) = (host.log.clone(), Interrupter::default());
    let run = Start { vector: start, spare: None };
    let mut operator = FiniteDifference::new(host, layout, &config, calibration, &never, run, product)?;
    operator.apply(0, start, None, product)?;
    let norm = operator.apply(1, start, None, product)?.norm;
    let before = log.borrow().gradients.len();
    let started = Instant::now();
    operator.apply(2, start, Some(norm), product)?;
    let seconds = started.elapsed().as_secs_f64();
    let taken = log.borrow().gradients.len() - before;
    let asked = if difference == Difference::Forward { 1 } else { 2 };
    Ok((taken == asked).then_some(seconds))
}
