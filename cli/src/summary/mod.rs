//! A snapshot as a table for the terminal.

mod blocks;
mod stability;

pub(crate) use blocks::method;

use crate::number::{Number, bytes, estimate, extreme};
use crate::table::row;
use hessian_probe::Snapshot;
use hessian_probe::spectrum::HvpReport;
use std::fmt::{self, Display};

/// Shows a snapshot, one line a quantity.
pub struct Summary<'a>(pub &'a Snapshot);

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.0;
        // First, as they are about all the rest.
        for warning in &snapshot.warnings {
            row(f, "WARNING", warning)?;
        }
        let tokens = snapshot.tokens.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
        let parameters = format!("{} over {} rank(s)", snapshot.parameters, snapshot.world_size);
        row(f, "parameters", &parameters)?;
        row(f, "loss", &format_args!("{:.6} over {tokens} targets", snapshot.loss))?;
        row(f, "‖gradient‖", &Number(snapshot.gradient_norm))?;
        if !snapshot.operator.includes_hessian() {
            let of = snapshot.operator.name();
            row(f, "spectrum", &format_args!("of {of}, as the optimizer sees the Hessian"))?;
        }
        row(f, "λ_max", &extreme(snapshot.lambda_max))?;
        row(f, "λ_min", &extreme(snapshot.lambda_min))?;
        row(f, "trace", &estimate(snapshot.trace))?;
        row(f, "‖H‖_F", &estimate(snapshot.frobenius_norm))?;
        row(f, "effective rank", &snapshot.effective_rank.map_or_else(|| "none, H = 0".into(), estimate))?;
        stability::write(f, snapshot)?;
        row(f, "products", &products(&snapshot.hvp))?;
        row(f, "product error", &product_error(&snapshot.hvp))?;
        let unresolved = snapshot.unresolved;
        row(
            f,
            "unresolved",
            &format_args!(
                "{:.4} % of the eigenvalues: they are smaller than {}",
                100.0 * unresolved.mass.mean,
                Number(unresolved.floor)
            ),
        )?;
        row(f, "Lanczos", &lanczos(snapshot))?;
        if let Some(found) = &snapshot.block_diagonal {
            blocks::write(f, found)?;
        }
        let cost = &snapshot.cost;
        row(f, "cost", &format_args!("{} gradients, {:.1} s", cost.gradients, cost.seconds))?;
        let peak = cost.peak_memory_bytes.map_or_else(|| "not known here".into(), bytes);
        row(f, "peak memory", &format_args!("{peak}, all ranks' processes together"))
    }
}

/// How many by which formula.
pub(crate) fn products(hvp: &HvpReport) -> String {
    let kinds = [
        (hvp.forward, "by forward differences"),
        (hvp.central, "by central differences"),
        (hvp.central4, "by central differences of fourth order"),
        (hvp.exact, "exact"),
    ];
    let taken = kinds.iter().filter(|(count, _)| *count > 0);
    let taken: Vec<String> = taken.map(|(count, how)| format!("{count} {how}")).collect();
    let taken = if taken.is_empty() { "none".into() } else { taken.join(", ") };
    let again = match (hvp.redone, hvp.redone_gradients) {
        (0, _) => String::new(),
        // A log of before they were counted.
        (redone, 0) => format!("; {redone} computed again"),
        (redone, gradients) => format!("; {redone} computed again, {gradients} gradients spent on that"),
    };
    taken + &again
}

pub(crate) fn product_error(hvp: &HvpReport) -> String {
    let [median, worst] = [hvp.predicted_error_median, hvp.predicted_error_worst].map(Number);
    format!("{median} median, {worst} worst, relative, predicted")
}

/// Steps of each run, and which of them ended early.
pub(crate) fn lanczos(snapshot: &Snapshot) -> String {
    let runs = &snapshot.probes;
    let steps = runs.iter().map(|run| run.alpha.len()).max().unwrap_or(0);
    let complete = runs.iter().filter(|run| run.breakdown.is_some()).count();
    let exact = match complete {
        0 => String::new(),
        count => format!("; {count} ended early: T is exact there"),
    };
    let deflated = runs.iter().map(|run| run.deflated.len()).max().unwrap_or(0);
    let deflated = if deflated > 0 { format!("; {deflated} outlier(s) deflated") } else { String::new() };
    format!("{} probe vector(s), up to {steps} steps{exact}{deflated}", runs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_formula_that_was_used_is_named() {
        let hvp =
            HvpReport { forward: 3, central: 0, central4: 2, exact: 7, redone: 1, ..HvpReport::default() };
        let shown = products(&hvp);
        assert_eq!(
            shown,
            "3 by forward differences, 2 by central differences of fourth order, 7 exact; 1 computed again"
        );
        let counted = HvpReport { redone_gradients: 2, ..hvp };
        assert!(products(&counted).ends_with("; 1 computed again, 2 gradients spent on that"));
        assert_eq!(products(&HvpReport::default()), "none");
    }
}
