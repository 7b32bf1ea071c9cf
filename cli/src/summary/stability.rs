//! The curvature that the optimizer sees, and how much of it is borne.

use crate::number::{Number, Short, extreme};
use crate::table::row;
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
    if let Some(found) = &snapshot.stability {
        stability(f, found, "λ_max")?;
    }
    let directions = snapshot.directions.unwrap_or_default();
    if let Some(along) = directions.gradient {
        let [curvature, error] = [along.curvature, along.error].map(Short);
        row(f, "along gradient", &format_args!("{curvature} ± {error} = gᵀHg/‖g‖²"))?;
    }
    if let Some(update) = directions.update {
        let [curvature, error] = [update.along.curvature, update.along.error].map(Short);
        let which = if update.coming { "coming" } else { "last" };
        row(f, "along update", &format_args!("{curvature} ± {error} = uᵀHu/‖u‖², u the {which} update"))?;
        let [predicted, measured] = [update.predicted_change, update.measured_change].map(Short);
        row(f, "loss along it", &format_args!("{predicted} by the quadratic model, {measured} measured"))?;
    }
    Ok(())
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
