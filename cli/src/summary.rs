//! A snapshot as a table for the terminal.

use hessian_probe::Snapshot;
use hessian_probe::spectrum::{Estimate, Extreme};
use std::fmt::{self, Display};

/// Shows a snapshot, one line a quantity.
pub struct Summary<'a>(pub &'a Snapshot);

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.0;
        let mut row = |name: &str, value: &dyn Display| writeln!(f, "{name:<16} {value}");
        let tokens = snapshot.tokens.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
        row("parameters", &format_args!("{} over {} rank(s)", snapshot.parameters, snapshot.world_size))?;
        row("loss", &format_args!("{:.6} over {tokens} targets", snapshot.loss))?;
        row("‖gradient‖", &Number(snapshot.gradient_norm))?;
        row("λ_max", &extreme(snapshot.lambda_max))?;
        row("λ_min", &extreme(snapshot.lambda_min))?;
        row("trace", &estimate(snapshot.trace))?;
        row("‖H‖_F", &estimate(snapshot.frobenius_norm))?;
        row("effective rank", &snapshot.effective_rank.map_or_else(|| "none, H = 0".into(), estimate))?;
        let hvp = &snapshot.hvp;
        row(
            "product error",
            &format_args!(
                "{} median, {} worst, predicted; {} products by forward and {} by central differences, {} computed again",
                Number(hvp.predicted_error_median),
                Number(hvp.predicted_error_worst),
                hvp.forward,
                hvp.central,
                hvp.redone
            ),
        )?;
        let unresolved = snapshot.unresolved;
        row(
            "unresolved",
            &format_args!(
                "{:.4} % of the eigenvalues: they are smaller than {}",
                100.0 * unresolved.mass.mean,
                Number(unresolved.floor)
            ),
        )?;
        row("Lanczos", &lanczos(snapshot))?;
        let cost = &snapshot.cost;
        row("cost", &format_args!("{} gradients, {:.1} s", cost.gradients, cost.seconds))
    }
}

/// Steps of each run, and which of them ended early.
fn lanczos(snapshot: &Snapshot) -> String {
    let runs = &snapshot.probes;
    let steps = runs.iter().map(|run| run.alpha.len()).max().unwrap_or(0);
    let complete = runs.iter().filter(|run| run.breakdown.is_some()).count();
    let exact = match complete {
        0 => String::new(),
        count => format!("; {count} ended early: T is exact there"),
    };
    format!("{} probe vector(s), up to {steps} steps{exact}", runs.len())
}

fn extreme(value: Extreme) -> String {
    format!("{} ± {}", Number(value.value), Number(value.residual))
}

fn estimate(value: Estimate) -> String {
    match value.standard_error {
        Some(error) => format!("{} ± {}", Number(value.mean), Number(error)),
        None => format!("{} (one probe vector: no error is known)", Number(value.mean)),
    }
}

/// Six digits, without an exponent where that is readable.
struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size == 0.0 {
            f.write_str("0")
        } else if (1e-3..1e6).contains(&size) {
            let decimals = (5 - size.log10().floor() as i32).max(0) as usize;
            write!(f, "{:.decimals$}", self.0)
        } else {
            write!(f, "{:.5e}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_digits() {
        for (number, shown) in [
            (0.0, "0"),
            (-114.789_12, "-114.789"),
            (0.012_345_678, "0.0123457"),
            (123_456.7, "123457"),
            (3.0e-7, "3.00000e-7"),
            (-2.5e6, "-2.50000e6"),
        ] {
            assert_eq!(Number(number).to_string(), shown);
        }
    }
}
