//! How the products went, and what they cost.

use crate::cost::Parts;
use crate::operator::{Calibration, Scheme};
use crate::operator::{ProductRecord, Spent};
use crate::sharded::ranks::Ranks;
use crate::spectrum::{Cost, HvpReport};
use std::time::{Duration, Instant};

pub(crate) fn report(
    products: &[ProductRecord],
    redone: u64,
    noise: f64,
    calibration: &Calibration,
) -> HvpReport {
    let (errors, parities) = (predicted_errors(products), Sorted::of(products, |product| product.parity));
    let steps = Sorted::of(products, |product| product.step);
    let count = |scheme| products.iter().filter(|product| product.scheme == scheme).count() as u64;
    HvpReport {
        forward: count(Scheme::Forward),
        central: count(Scheme::Central),
        central4: count(Scheme::Central4),
        exact: count(Scheme::Exact),
        redone,
        redone_gradients: products.iter().fold(0, |sum, product| product.given_up.saturating_add(sum)),
        step_min: steps.least(),
        step_max: steps.largest(),
        predicted_error_median: errors.median(),
        predicted_error_worst: errors.largest(),
        parity_median: parities.median(),
        parity_worst: parities.largest(),
        rounding_worst: Sorted::of(products, |product| product.rounding).largest(),
        gradient_noise: noise,
        component_noise: calibration.component_noise,
        gradient_repeats: calibration.gradient_repeats,
        repeat_difference: calibration.repeat_difference,
        asymmetry: calibration.asymmetry,
    }
}

/// Of the products, what each says of itself; by the median a spectrum is [judged](crate::spectrum::regime).
pub(crate) fn predicted_errors(products: &[ProductRecord]) -> Sorted {
    Sorted::of(products, |product| product.error)
}

/// A quantity of all products, ascending; 0 of none.
pub(crate) struct Sorted(Vec<f64>);

impl Sorted {
    fn of(products: &[ProductRecord], quantity: impl Fn(&ProductRecord) -> f64) -> Self {
        let mut values: Vec<f64> = products.iter().map(quantity).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(0.0)
    }

    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(0.0)
    }

    pub(crate) fn largest(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }
}

pub(super) fn cost(spent: &Spent, ranks: &Ranks, seconds: f64) -> Cost {
    Cost {
        seconds,
        gradient_seconds: spent.gradient_seconds,
        communication_seconds: spent.communication_seconds + ranks.seconds.as_secs_f64(),
        gradients: spent.gradients,
        calibration_gradients: 0,
        all_reduces: spent.all_reduces + ranks.all_reduces,
        reduced_values: spent.reduced_values + ranks.values,
        basis_bytes: 0,
        vector_bytes: spent.vector_bytes,
        peak_memory_bytes: None,
        parts: Parts::default(),
    }
}

/// The time of what a probe does itself.
#[derive(Debug, Default)]
pub(super) struct SpentOn {
    pub(super) saving: Duration,
    pub(super) drawing: Duration,
    pub(super) lanczos: Duration,
    pub(super) checks: Duration,
    pub(super) blocks: Duration,
}

impl SpentOn {
    /// With what the operator spent; `ranks` are those that reduced outside of it.
    pub(super) fn parts(&self, spent: &Spent, ranks: &Ranks, seconds: f64) -> Parts {
        let calibrating = spent.calibrating;
        let communication = spent.communication_seconds + ranks.seconds.as_secs_f64();
        let parts = Parts {
            gradients: spent.gradient_seconds - calibrating.gradients.as_secs_f64(),
            calibration: calibrating.whole.as_secs_f64(),
            all_reduces: communication - calibrating.all_reduces.as_secs_f64(),
            saving: (self.saving + spent.saving).as_secs_f64(),
            drawing: self.drawing.as_secs_f64(),
            products: spent.products.as_secs_f64(),
            lanczos: self.lanczos.as_secs_f64(),
            checks: self.checks.as_secs_f64(),
            blocks: self.blocks.as_secs_f64(),
            other: 0.0,
        };
        Parts { other: (seconds - parts.total()).max(0.0), ..parts }
    }
}

/// Adds the time of `work`.
pub(super) fn timed<T>(spent: &mut Duration, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    *spent += started.elapsed();
    done
}
