//! How the products went, and what they cost.

use crate::operator::finite_difference::{ProductRecord, Spent};
use crate::sharded::ranks::Ranks;
use crate::spectrum::{Cost, HvpReport};

pub(crate) fn report(
    products: &[ProductRecord],
    redone: u64,
    noise: f64,
    repeats: Option<bool>,
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
    let central = products.iter().filter(|product| product.central).count() as u64;
    HvpReport {
        forward: products.len() as u64 - central,
        central,
        redone,
        step_min: steps.first().copied().unwrap_or(0.0),
        step_max: last(&steps),
        predicted_error_median: median(&errors),
        predicted_error_worst: last(&errors),
        parity_median: median(&parities),
        parity_worst: last(&parities),
        rounding_worst: last(&sorted(&|product| product.rounding)),
        gradient_noise: noise,
        gradient_repeats: repeats,
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
    }
}
