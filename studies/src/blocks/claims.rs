//! What the page says.

use super::record::{Comparison, Study};
use crate::claim::Claim;
use crate::number::short;

/// All claims.
pub fn of(study: &Study) -> Vec<Claim> {
    vec![order_one(study)]
}

/// The paper's: relative error of order one.
fn order_one(study: &Study) -> Claim {
    let errors: Vec<f64> = study.texts.iter().filter_map(|text| random_error(&text.layers)).collect();
    let (low, high) = range(&errors);
    Claim::new(
        errors.len() == study.texts.len() && low > 0.3,
        "On every text the block-diagonal part by layers misses Hv, for random v, by an error of order one.",
        format!("relative error {} to {}", short(low), short(high)),
    )
}

fn random_error(found: &Comparison) -> Option<f64> {
    found.relative_error.map(|error| error.mean)
}

fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    (low, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}
