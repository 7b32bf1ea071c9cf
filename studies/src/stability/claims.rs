//! What the page says.

use super::record::{Run, Study, quantile};
use crate::claim::Claim;
use crate::number::short;

/// How near to the threshold "at" it is.
const NEAR: f64 = 0.15;
/// What is clearly below it.
const BELOW: f64 = 0.7;

/// All claims.
pub fn of(study: &Study) -> Vec<Claim> {
    vec![
        settles("Gradient descent on the digits", "2/η", &study.descent),
        settles("Adam on the text", "38/η", &study.adam),
    ]
}

fn settles(what: &str, threshold: &str, runs: &[Run]) -> Claim {
    let medians: Vec<f64> = runs.iter().map(|run| quantile(&run.settled(), 0.5)).collect();
    let shown: Vec<String> = runs
        .iter()
        .zip(&medians)
        .map(|(run, median)| format!("η = {}: from {} to {}", run.learning_rate, short(run.start()), short(*median)))
        .collect();
    Claim::new(
        runs.len() >= 3 && medians.iter().all(|median| (median - 1.0).abs() <= NEAR) && runs.iter().all(|run| run.start() < BELOW),
        format!("{what}: λ_max starts below {threshold}, rises to it and stays there."),
        format!("margin at the start and its median over the last third: {}", shown.join("; ")),
    )
}
