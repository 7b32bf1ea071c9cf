//! The study as tables of Markdown.

use super::record::{Model, Study, Sweep};
use crate::claim::{self, Claim};
use crate::number::{percent, row, short};
use crate::page::Section;
use hessian_probe::regimes::{Compared, DirectionKind};
use std::collections::BTreeMap;

const DIRECTIONS: [(DirectionKind, &str); 3] = [
    (DirectionKind::Random, "random v"),
    (DirectionKind::Gradient, "the gradient's direction"),
    (DirectionKind::Top, "near the top eigenvector"),
];

/// The page's sections.
pub fn sections(study: &Study, claims: &[Claim]) -> Vec<Section> {
    let Study { demo, smollm2 } = study;
    let section = |name, markdown| Section { name, markdown };
    vec![
        section("claims", claim::list(claims)),
        section("demo: settings", settings(demo)),
        section("demo: sweeps", sweeps(demo)),
        section("demo: choices", choices(demo)),
        section("demo: runs", runs(demo)),
        section("demo: deflation", deflation(demo)),
        section("SmolLM2: settings", settings(smollm2)),
        section("SmolLM2: sweeps", sweeps(smollm2)),
        section("SmolLM2: choices", choices(smollm2)),
        section("SmolLM2: runs", runs(smollm2)),
        section("SmolLM2: deflation", deflation(smollm2)),
    ]
}

fn settings(model: &Model) -> String {
    let mut table = format!(
        "{}: {} parameters, {} targets.\n\n| precision | ‖θ‖ | ‖g‖ | error of g | η |\n|---|---|---|---|---|\n",
        model.name, model.parameters, model.tokens
    );
    for precision in &model.precisions {
        table += &row(&[
            precision.name.clone(),
            short(precision.parameter_norm),
            short(precision.gradient_norm),
            precision.gradient_error.map_or_else(|| "–".into(), percent),
            short(precision.noise),
        ]);
    }
    table
}

/// For every vector and precision the errors over h, the best in bold.
fn sweeps(model: &Model) -> String {
    let mut text = String::new();
    for (direction, name) in DIRECTIONS {
        let columns: Vec<Option<&Sweep>> =
            model.precisions.iter().map(|precision| precision.sweep(direction)).collect();
        let Some(first) = columns.iter().flatten().next() else { continue };
        text += &format!("{name}: ‖Hv‖ = {}, vᵀHv = {}\n\n| h |", short(first.norm), short(first.curvature));
        for precision in &model.precisions {
            text += &format!(" {} |", precision.name);
        }
        text += &format!("\n|---|{}\n", "---|".repeat(columns.len()));
        // Steps are positive, so that their bits are in their order.
        let mut rows: BTreeMap<u64, Vec<Option<f64>>> = BTreeMap::new();
        for (column, sweep) in columns.iter().enumerate() {
            for point in sweep.iter().flat_map(|sweep| &sweep.points) {
                let cells = rows.entry(point.step.to_bits()).or_insert_with(|| vec![None; columns.len()]);
                cells[column] = Some(point.error);
            }
        }
        for (step, errors) in rows {
            let mut cells = vec![format!("{:.2e}", f64::from_bits(step))];
            for (error, sweep) in errors.iter().zip(&columns) {
                let best = sweep.and_then(Sweep::best).map(|point| point.error);
                cells.push(match error {
                    Some(error) if best == Some(*error) => format!("**{}**", percent(*error)),
                    Some(error) if *error > 10.0 => "> 1000 %".into(),
                    Some(error) => percent(*error),
                    None => "–".into(),
                });
            }
            text += &row(&cells);
        }
        text.push('\n');
    }
    text
}

fn choices(model: &Model) -> String {
    let mut table = String::from(
        "| precision | vector | best h | its error | h̄/h | vᵀHv | chosen h | its error | predicted | over the best | gradients |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for precision in &model.precisions {
        for (direction, name) in DIRECTIONS {
            let Some(sweep) = precision.sweep(direction) else { continue };
            let Some(best) = sweep.best() else { continue };
            let chosen = &sweep.automatic;
            table += &row(&[
                precision.name.clone(),
                name.into(),
                format!("{:.2e}", best.step),
                percent(best.error),
                format!("{:.2}", best.realised / best.step),
                format!("{} for {}", short(best.curvature), short(sweep.curvature)),
                format!("{:.2e}", chosen.step),
                percent(chosen.error),
                percent(chosen.predicted),
                chosen.ratio.map_or_else(|| "–".into(), short),
                chosen.gradients.to_string(),
            ]);
        }
    }
    table
}

fn runs(model: &Model) -> String {
    let mut table = String::from(
        "| precision | products | λ_max | λ_min | Σ τθ | Σ τθ² | worst α or β | predicted | max\\|QᵀQ − I\\| | gradients |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for precision in &model.precisions {
        if let Some(run) = precision.runs.first() {
            let values = [run.lambda_max, run.lambda_min, run.first_moment, run.second_moment];
            let mut cells = vec![precision.name.clone(), "double backward".into()];
            cells.extend(values.map(|value| short(value.reference)));
            cells.extend(["–"; 4].map(Into::into));
            table += &row(&cells);
        }
        for run in &precision.runs {
            table += &row(&[
                precision.name.clone(),
                run.products(),
                compared(&run.lambda_max),
                compared(&run.lambda_min),
                compared(&run.first_moment),
                compared(&run.second_moment),
                percent(run.worst_deviation),
                run.predicted_error.map_or_else(|| "–".into(), percent),
                run.orthogonality_defect.map_or_else(|| "–".into(), short),
                run.gradients.to_string(),
            ]);
        }
    }
    table
}

fn compared(value: &Compared) -> String {
    let deviation = value.deviation.map_or_else(String::new, |deviation| {
        format!(" ({}{})", if deviation < 0.0 { "−" } else { "+" }, percent(deviation.abs()))
    });
    format!("{}{deviation}", short(value.value))
}

fn deflation(model: &Model) -> String {
    let Some(deflation) = &model.deflation else { return String::new() };
    let mut table = format!(
        "{} Lanczos steps for each probe vector, and for the run that finds the outliers:\n\n| `deflate` | deflated | floor | mass below it | λ_max | gradients |\n|---|---|---|---|---|---|\n",
        deflation.steps
    );
    for found in &deflation.spectra {
        table += &row(&[
            found.deflate.to_string(),
            found.deflated.to_string(),
            short(found.floor),
            format!("{:.4} %", 100.0 * found.mass.mean),
            short(found.lambda_max),
            found.gradients.to_string(),
        ]);
    }
    table
}
