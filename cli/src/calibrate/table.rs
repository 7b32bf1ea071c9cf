//! A calibration as tables.

use super::record::Calibration;
use crate::table::Table;
use hessian_probe::config::StepSize;
use hessian_probe::regimes::{Choice, Compared, DirectionKind, DirectionRecord, Regime};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Prints one table for each vector, one of the noise and one of what becomes of Lanczos runs.
pub struct Tables<'a>(pub &'a Calibration);

impl Display for Tables<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Calibration { model, parameters, tokens, precisions, .. } = self.0;
        writeln!(f, "model            {model}")?;
        writeln!(f, "parameters       {parameters}")?;
        writeln!(f, "targets          {tokens}")?;
        for kind in [DirectionKind::Random, DirectionKind::Gradient, DirectionKind::Top] {
            direction(f, kind, precisions)?;
        }
        noise(f, precisions)?;
        runs(f, precisions)
    }
}

/// What a cell shows where there is nothing.
const NONE: &str = "-";

fn of(regime: &Regime, kind: DirectionKind) -> Option<&DirectionRecord> {
    regime.directions.iter().find(|record| record.direction == kind)
}

fn direction(f: &mut Formatter<'_>, kind: DirectionKind, regimes: &[Regime]) -> fmt::Result {
    let records: Vec<Option<&DirectionRecord>> = regimes.iter().map(|regime| of(regime, kind)).collect();
    let Some(first) = records.iter().flatten().next() else {
        return Ok(());
    };
    let vector = match kind {
        DirectionKind::Random => "a random vector",
        DirectionKind::Gradient => "the gradient's direction",
        DirectionKind::Top => "near the top eigenvector",
    };
    writeln!(f)?;
    writeln!(
        f,
        "{vector}: ‖Hv‖ = {:.3e}, vᵀHv = {:.3e}; error of central differences with step h, the best in brackets",
        first.norm, first.curvature
    )?;
    let mut table = columns("h", regimes);
    // Steps are positive, so that their bits are in their order.
    let mut steps: BTreeMap<u64, Vec<Option<f64>>> = BTreeMap::new();
    for (column, record) in records.iter().enumerate() {
        for row in record.iter().flat_map(|record| &record.rows) {
            let cells = steps.entry(row.step.to_bits()).or_insert_with(|| vec![None; records.len()]);
            cells[column] = row.central.map(|point| point.error);
        }
    }
    for (step, errors) in steps {
        if errors.iter().all(Option::is_none) {
            continue;
        }
        let step = f64::from_bits(step);
        let cell = |(error, record): (&Option<f64>, &Option<&DirectionRecord>)| {
            let best = record.and_then(|record| record.best).is_some_and(|best| best.step == step);
            error.map_or(
                NONE.into(),
                |error| if best { format!("[{}]", percent(error)) } else { percent(error) },
            )
        };
        table.row(&format!("{step:.1e}"), errors.iter().zip(&records).map(cell));
    }
    table.line();
    let mut chosen = |what: &str, choice: fn(&DirectionRecord) -> &Choice| {
        let mut row = |name: &str, cell: &dyn Fn(&Choice) -> String| {
            let cells =
                records.iter().map(|record| record.map_or(NONE.into(), |record| cell(choice(record))));
            table.row(&format!("{what}{name}"), cells);
        };
        row(": h", &|choice| format!("{:.1e}", choice.step));
        row(", predicted error", &|choice| percent(choice.predicted));
        row(", true error", &|choice| percent(choice.error));
        row(", true / best", &|choice| choice.ratio.map_or(NONE.into(), |ratio| format!("{ratio:.2}")));
        row(", gradients", &|choice| choice.gradients.to_string());
    };
    chosen("best step sought", |record| &record.automatic);
    chosen("as a probe does", |record| &record.configured);
    let cells =
        records.iter().map(|record| record.map_or(NONE.into(), |record| percent(record.reference_error)));
    table.row("reference's own error", cells);
    write!(f, "{table}")
}

fn noise(f: &mut Formatter<'_>, regimes: &[Regime]) -> fmt::Result {
    writeln!(f, "\nthe gradient")?;
    let mut table = columns("", regimes);
    let mut row = |name: &str, cell: &dyn Fn(&Regime) -> Option<String>| {
        table.row(name, regimes.iter().map(|regime| cell(regime).unwrap_or_else(|| NONE.into())));
    };
    let e = |value: f64| Some(format!("{value:.2e}"));
    row("loss", &|regime| Some(format!("{:.5}", regime.loss)));
    row("norm ‖g‖", &|regime| e(regime.gradient_norm));
    row("error of g", &|regime| regime.gradient_error.map(percent));
    row("noise η", &|regime| e(regime.noise.gradient));
    row("noise of ⟨g, v⟩ (ECNoise)", &|regime| regime.noise.component.and_then(e));
    row("repeats bit for bit", &|regime| {
        regime.noise.repeats.map(|repeats| if repeats { "yes".into() } else { "no".into() })
    });
    row("asymmetry of H", &|regime| regime.noise.asymmetry.map(percent));
    row("gradients spent", &|regime| Some(regime.gradients.to_string()));
    write!(f, "{table}")
}

fn runs(f: &mut Formatter<'_>, regimes: &[Regime]) -> fmt::Result {
    let count = regimes.iter().map(|regime| regime.runs.len()).max().unwrap_or(0);
    for index in 0..count {
        let Some(first) = regimes.iter().find_map(|regime| regime.runs.get(index)) else { continue };
        let steps = first.run.alpha.len();
        let how = match first.hvp.step_size {
            StepSize::Auto => "a step for every vector".to_owned(),
            StepSize::Absolute(h) => format!("fixed step h = {h}"),
            StepSize::Relative(share) => format!("fixed step h = {share}·‖θ‖"),
        };
        writeln!(f, "\n{steps} Lanczos steps, {how}: how far from the reference's")?;
        let mut table = columns("", regimes);
        let mut row = |name: &str, cell: &dyn Fn(&hessian_probe::regimes::RunRecord) -> String| {
            let cells = regimes.iter().map(|regime| regime.runs.get(index).map_or(NONE.into(), cell));
            table.row(name, cells);
        };
        let largest = |values: &[f64]| percent(values.iter().copied().fold(0.0, f64::max));
        let compared = |compared: Compared| {
            let off = compared.deviation.map_or(NONE.into(), signed_percent);
            format!("{:.4e} {off:>9}", compared.value)
        };
        row("α, worst of its largest", &|run| largest(&run.alpha_deviation));
        row("β, worst of its largest", &|run| largest(&run.beta_deviation));
        row("orthogonality defect", &|run| {
            run.run.orthogonality_defect.map_or(NONE.into(), |defect| format!("{defect:.1e}"))
        });
        row("λ_max", &|run| compared(run.lambda_max));
        row("λ_min", &|run| compared(run.lambda_min));
        row("Σ τθ", &|run| compared(run.first_moment));
        row("Σ τθ²", &|run| compared(run.second_moment));
        row("gradients", &|run| run.run.gradients.to_string());
        write!(f, "{table}")?;
    }
    Ok(())
}

/// As a percentage; very small and very large ones with an exponent.
fn percent(share: f64) -> String {
    let value = 100.0 * share;
    match value.abs() {
        0.0 => "0 %".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e} %"),
        size if size < 1.0 => format!("{value:.4} %"),
        size if size < 100.0 => format!("{value:.2} %"),
        _ => format!("{value:.0} %"),
    }
}

fn signed_percent(share: f64) -> String {
    if share < 0.0 { percent(share) } else { format!("+{}", percent(share)) }
}

/// A table with a column for each precision.
fn columns(corner: &str, regimes: &[Regime]) -> Table {
    let mut table = Table::default();
    table.row(corner, regimes.iter().map(|regime| regime.name.clone()));
    table
}
