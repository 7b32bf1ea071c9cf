//! Tables of the page.

use super::escape::Html;
use crate::number::{NONE, Number, Short, bytes, optional, short};
use crate::run::Run;
use crate::summary;
use hessian_probe::Snapshot;
use hessian_probe::blocks::{BlockDiagonal, BlockRecord};
use hessian_probe::optimizer::Stability;
use hessian_probe::spectrum::{Estimate, Extreme};
use std::fmt::{Display, Write};

/// Rows of a name, a value and what it means.
struct Rows(String);

impl Rows {
    fn row(&mut self, name: &str, value: impl Display, meaning: &str) {
        // Writing to a String does not fail.
        let _ = write!(
            self.0,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td><td>{}</td></tr>",
            Html(name),
            Html(value),
            Html(meaning)
        );
    }

    fn table(self, caption: &str) -> String {
        format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table class=\"facts\"><caption>{0}</caption><tbody>{1}</tbody></table></div>",
            Html(caption),
            self.0
        )
    }
}

/// A table with a head; cells that are numbers stand to the right.
fn table(caption: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let mut all = String::new();
    for row in rows {
        all.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let _ = match index {
                0 => write!(all, "<th scope=\"row\">{}</th>", Html(cell)),
                _ => write!(all, "<td class=\"number\">{}</td>", Html(cell)),
            };
        }
        all.push_str("</tr>");
    }
    let head: String = head.iter().map(|name| format!("<th scope=\"col\">{}</th>", Html(name))).collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>{head}</tr></thead><tbody>{all}</tbody></table></div>",
        Html(caption)
    )
}

fn extreme(found: Extreme) -> String {
    format!("{} ± {}", Number(found.value), Short(found.residual))
}

fn estimate(found: Estimate) -> String {
    match found.standard_error {
        Some(error) => format!("{} ± {}", Number(found.mean), Short(error)),
        None => Number(found.mean).to_string(),
    }
}

/// A section with everything about a snapshot.
pub fn details(snapshot: &Snapshot, unit: &str) -> String {
    let mut all = String::new();
    for warning in &snapshot.warnings {
        let _ = write!(all, "<p class=\"warning\"><strong>Warning.</strong> {}</p>", Html(warning));
    }
    all.push_str(&spectrum(snapshot, unit));
    if snapshot.stability.is_some() || snapshot.preconditioned.is_some() || snapshot.directions.is_some() {
        all.push_str(&stability(snapshot));
    }
    if let Some(found) = &snapshot.block_diagonal {
        all.push_str(&blocks(found));
    }
    all.push_str(&cost(snapshot));
    all
}

fn spectrum(s: &Snapshot, unit: &str) -> String {
    let mut rows = Rows(String::new());
    let tokens = s.tokens.map_or_else(|| "an unknown number of".into(), |tokens| tokens.to_string());
    rows.row("loss", format_args!("{:.6}", s.loss), &format!("mean over {tokens} targets"));
    rows.row("‖∇L‖", Number(s.gradient_norm), "loss / parameter");
    rows.row("‖θ‖", Number(s.parameter_norm), &format!("of {} parameters", s.parameters));
    rows.row("λ_max", extreme(s.lambda_max), &format!("{unit}; an eigenvalue lies within the residual"));
    rows.row("λ_min", extreme(s.lambda_min), &format!("{unit}; an eigenvalue lies within the residual"));
    let standard = match s.probes.len() {
        1 => "one probe vector: no standard error is known".to_owned(),
        count => format!("± standard error over {count} probe vectors"),
    };
    rows.row("trace", estimate(s.trace), &format!("{unit}; {standard}"));
    rows.row("mean eigenvalue", estimate(s.mean_eigenvalue), unit);
    rows.row("Frobenius norm", estimate(s.frobenius_norm), unit);
    let none = || "none, H = 0".to_owned();
    rows.row("effective rank", s.effective_rank.map_or_else(none, estimate), "tr(|H|)² / ‖H‖_F²");
    rows.row(
        "stable rank",
        s.stable_rank.map_or_else(none, estimate),
        "‖H‖_F² / λ², λ the largest in magnitude",
    );
    rows.row("spectral entropy", s.spectral_entropy.map_or_else(none, estimate), "nats");
    let percent = |found: Estimate| match found.standard_error {
        Some(error) => format!("{} ± {} %", Short(100.0 * found.mean), Short(100.0 * error)),
        None => format!("{} %", Short(100.0 * found.mean)),
    };
    rows.row(
        "negative for certain",
        percent(s.negative_share_resolved),
        "of the eigenvalues, at least; the rest of the sign is noise",
    );
    rows.row(
        "unresolved",
        percent(s.unresolved.mass),
        &format!("of the eigenvalues: smaller than {}, which the noise hides", Short(s.unresolved.floor)),
    );
    rows.table("Spectrum")
}

fn stability(s: &Snapshot) -> String {
    let mut rows = Rows(String::new());
    if let Some(seen) = &s.preconditioned {
        rows.row("preconditioned λ_max", extreme(seen.lambda_max), "1/η; of P^(−1/2) H P^(−1/2)");
        rows.row("preconditioned λ_min", extreme(seen.lambda_min), "1/η");
        margin(&mut rows, &seen.stability);
    }
    if let Some(found) = &s.stability {
        margin(&mut rows, found);
    }
    let directions = s.directions.unwrap_or_default();
    let along = |curvature: f64, error: f64| format!("{} ± {}", Number(curvature), Short(error));
    if let Some(found) = directions.gradient {
        rows.row("along the gradient", along(found.curvature, found.error), "gᵀHg/‖g‖², loss / parameter²");
    }
    if let Some(found) = directions.update {
        rows.row(
            "along the update",
            along(found.along.curvature, found.along.error),
            "uᵀHu/‖u‖², loss / parameter²",
        );
        let change = format!("{} and {}", Short(found.predicted_change), Short(found.measured_change));
        rows.row("loss along it", change, "by the quadratic model, and measured");
    }
    rows.table("Stability")
}

fn margin(rows: &mut Rows, found: &Stability) {
    let optimizer = format!("{}, learning rate {}", found.optimizer, Short(found.learning_rate));
    match (found.margin, found.threshold) {
        (Some(margin), Some(threshold)) => {
            let verdict = if margin > 1.0 { "unstable" } else { "stable" };
            let meaning = format!("{verdict}: the threshold of {optimizer} is {}", Short(threshold));
            rows.row("margin", Number(margin), &meaning);
        }
        _ => rows.row("margin", NONE, &format!("no threshold for {optimizer}")),
    }
}

fn blocks(found: &BlockDiagonal) -> String {
    let mut rows = Rows(String::new());
    let method = summary::method(found);
    rows.row(
        "relative error",
        optional(found.relative_error),
        &format!("‖H − H_bd‖_F / ‖H‖_F; {} random vector(s), {method}", found.vectors),
    );
    rows.row("cosine", optional(found.cosine), "of Hv and H_bd v");
    rows.row("off-diagonal share", optional(found.off_diagonal_share), "of ‖H‖_F²");
    if let Some(along) = &found.gradient {
        let [error, cosine] = [along.relative_error, along.cosine].map(optional);
        rows.row("along the gradient", format_args!("{error}; {cosine}"), "relative error; cosine");
    }
    for what in &found.left_out {
        rows.row("left out", NONE, what);
    }
    let cells = |block: &BlockRecord| {
        let of = |found: Option<Extreme>| {
            found.map_or_else(
                || NONE.into(),
                |found| format!("{} ± {}", Short(found.value), Short(found.residual)),
            )
        };
        vec![
            block.name.clone(),
            block.parameters.to_string(),
            short(block.trace),
            optional(block.frobenius_norm),
            of(block.lambda_max),
            of(block.lambda_min),
            optional(block.share),
        ]
    };
    let head = ["block", "parameters", "trace", "‖·‖_F", "λ_max", "λ_min", "share of ‖H‖_F²"];
    let all: Vec<Vec<String>> = found.blocks.iter().map(cells).collect();
    rows.table("Diagonal blocks against the whole") + &table("Diagonal blocks", &head, &all)
}

fn cost(s: &Snapshot) -> String {
    let mut rows = Rows(String::new());
    rows.row("Lanczos", summary::lanczos(s), "");
    rows.row("products", summary::products(&s.hvp), "");
    rows.row("their error", summary::product_error(&s.hvp), "");
    let cost = &s.cost;
    rows.row(
        "time",
        format_args!("{:.1} s", cost.seconds),
        &format!(
            "of it {:.1} s in gradients, {:.1} s in all_reduce",
            cost.gradient_seconds, cost.communication_seconds
        ),
    );
    rows.row(
        "gradients",
        cost.gradients,
        &format!("of them {} to measure their noise", cost.calibration_gradients),
    );
    rows.row("Lanczos basis", bytes(cost.basis_bytes), "on rank 0");
    rows.row("other vectors", bytes(cost.vector_bytes), "on rank 0");
    let peak = cost.peak_memory_bytes.map_or_else(|| NONE.into(), bytes);
    rows.row("peak memory", peak, &format!("of the processes of {} rank(s) together", s.world_size));
    rows.table("Products and cost")
}

/// One line a snapshot.
pub fn course(snapshots: &[&Snapshot], caption: &str) -> String {
    let margins = snapshots.iter().any(|snapshot| snapshot.margin().is_some());
    let mut head = vec!["step", "loss", "λ_max", "λ_min", "trace", "Frobenius norm"];
    head.extend(margins.then_some("margin"));
    head.extend(["seconds", "warnings"]);
    let row = |s: &&Snapshot| {
        let mut row = vec![
            s.step.to_string(),
            format!("{:.4}", s.loss),
            format!("{} ± {}", Short(s.lambda_max.value), Short(s.lambda_max.residual)),
            format!("{} ± {}", Short(s.lambda_min.value), Short(s.lambda_min.residual)),
            short(s.trace),
            short(s.frobenius_norm),
        ];
        if margins {
            row.push(s.margin().map_or_else(|| NONE.into(), |margin| Short(margin).to_string()));
        }
        row.extend([format!("{:.1}", s.cost.seconds), s.warnings.len().to_string()]);
        row
    };
    table(caption, &head, &snapshots.iter().map(row).collect::<Vec<_>>())
}

/// Events of a run that are no snapshots: `most` of each at most.
pub fn events(run: &Run, most: usize) -> String {
    let mut all = String::new();
    let mut list = |caption: &str, lines: Vec<(u64, String)>| {
        if lines.is_empty() {
            return;
        }
        let caption = match lines.len() {
            count if count > most => format!("{caption}: the last {most} of {count}"),
            count => format!("{caption}: {count}"),
        };
        let rows = lines.iter().rev().take(most).rev();
        let items: String =
            rows.map(|(step, text)| format!("<li>step {step}: {}</li>", Html(text))).collect();
        let _ = write!(all, "<h3>{}</h3><ul>{items}</ul>", Html(caption));
    };
    let skipped = run.skipped.iter().map(|skipped| (skipped.step, skipped.reason.clone())).collect();
    list("Probes that were skipped", skipped);
    let triggered = run.triggered.iter().map(|found| (found.step, found.to_string())).collect();
    list("Probes that started by themselves", triggered);
    all
}

/// What all probes of a run took together.
pub fn total(snapshots: &[&Snapshot], run: &Run) -> String {
    let seconds: f64 = snapshots.iter().map(|snapshot| snapshot.cost.seconds).sum();
    let gradients: u64 =
        snapshots.iter().map(|snapshot| snapshot.cost.gradients).fold(0, u64::saturating_add);
    let mut text = format!("{} probe(s), {gradients} gradients, {seconds:.1} s", snapshots.len());
    let tracked: f64 = run.tracked.iter().map(|found| found.seconds).sum();
    if !run.tracked.is_empty() {
        let _ = write!(text, "; λ_max tracked {} times, {tracked:.1} s", run.tracked.len());
    }
    let sharpness: f64 = run.sharpness.iter().map(|found| found.seconds).sum();
    if !run.sharpness.is_empty() {
        let _ = write!(text, "; critical sharpness {} times, {sharpness:.1} s", run.sharpness.len());
    }
    text
}
