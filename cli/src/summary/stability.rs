//! The curvature that the optimizer sees, and how much of it is borne.

use super::number::{Number, Short, extreme};
use super::row;
use hessian_probe::Snapshot;
use hessian_probe::optimizer::Stability;
use std::fmt;

pub(super) fn write(f: &mut fmt::Formatter<'_>, snapshot: &Snapshot) -> fmt::Result {
    if let Some(seen) = &snapshot.preconditioned {
        let share = 100.0 * seen.moved as f64 / snapshot.parameters as f64;
        row(
            f,
            "preconditioned",
            &format_args!("λ_max {}, λ_min {}", extreme(seen.lambda_max), extreme(seen.lambda_min)),
        )?;
        row(
            f,
            "moved",
            &format_args!("{} parameters, {} %, have a second moment", seen.moved, Short(share)),
        )?;
        stability(f, &seen.stability, "preconditioned λ_max")?;
    }
    match &snapshot.stability {
        Some(found) => stability(f, found, "λ_max"),
        None => Ok(()),
    }
}

fn stability(f: &mut fmt::Formatter<'_>, found: &Stability, of: &str) -> fmt::Result {
    let optimizer =
        format!("{}, learning rate {}, {} steps", found.optimizer, Short(found.learning_rate), found.steps);
    match (found.margin, found.threshold) {
        (Some(margin), Some(threshold)) => row(
            f,
            "margin",
            &format_args!(
                "{} = {of} / {}, the threshold of {optimizer}: {}",
                Number(margin),
                Number(threshold),
                if margin > 1.0 { "unstable" } else { "stable" }
            ),
        ),
        _ => row(f, "margin", &format_args!("none: no threshold for {optimizer}")),
    }
}
