//! How the products went, and what they cost.

use crate::operator::finite_difference::{ProductRecord, Spent};
use crate::operator::{Calibration, Scheme};
use crate::sharded::ranks::Ranks;
use crate::spectrum::{Cost, HvpReport};

pub(crate) fn report(
    products: &[ProductRecord],
    redone: u64,
    noise: f64,
    calibration: &Calibration,
) -> HvpReport {
    let sorted = |f: &dyn Fn(&ProductRecord) -> f64| {
        let mut values: Vec<f64> = products.iter().map(f).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |values: &[f64]| values.get(values.len() / 2).copied().unwrap_or(0.0);
    let last = |values: &[f64]| values.last().copied().unwrap_or(0.0);
    let (errors, parities) = (sorted(&|product| product.error), sorted(&|product| product.parity));
    let steps = sorted(&|product| product.step);
    let count = |scheme| products.iter().filter(|product| product.scheme == scheme).count() as u64;
    HvpReport {
        forward: count(Scheme::Forward),
        central: count(Scheme::Central),
        central4: count(Scheme::Central4),
        exact: count(Scheme::Exact),
        redone,
        step_min: steps.first().copied().unwrap_or(0.0),
        step_max: last(&steps),
        predicted_error_median: median(&errors),
        predicted_error_worst: last(&errors),
        parity_median: median(&parities),
        parity_worst: last(&parities),
        rounding_worst: last(&sorted(&|product| product.rounding)),
        gradient_noise: noise,
        component_noise: calibration.component_noise,
        gradient_repeats: calibration.gradient_repeats,
        repeat_difference: calibration.repeat_difference,
        asymmetry: calibration.asymmetry,
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
    }
}
