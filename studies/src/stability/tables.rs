//! The study as tables of Markdown.

use super::record::{LIMITS, Risen, Run, Study, quantile};
use crate::claim::{self, Claim};
use crate::number::{extreme_of, percent, row, short};
use crate::page::Section;

/// The page's sections.
pub fn sections(study: &Study, claims: &[Claim]) -> Vec<Section> {
    let Study { descent, free, adam, driven, control } = study;
    let section = |name, markdown| Section { name, markdown };
    vec![
        section("claims", claim::list(claims)),
        section("descent: settings", settings(descent)),
        section("descent", runs(descent.iter().chain([free]))),
        section("adam: settings", settings(adam)),
        section("adam", runs(adam)),
        section("rise", rise(driven, control)),
        section("changes", changes(driven)),
        section("limits", limits(study)),
    ]
}

fn settings(runs: &[Run]) -> String {
    let Some(run) = runs.first() else { return String::new() };
    format!(
        "{} parameters; the loss is a mean over {} targets, all of them in every step.",
        run.parameters, run.targets
    )
}

fn runs<'a>(runs: impl IntoIterator<Item = &'a Run>) -> String {
    let mut table = String::from(
        "| η | threshold | margin after the first step | lowest margin | above 1 after step | last third: median of the margin | 5 % to 95 % | last full probe: λ_max | its margin | loss, first to last |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for run in runs {
        let settled = run.settled();
        let last = run.probed.last();
        let losses = [run.tracked.first(), run.tracked.last()];
        let [first_loss, last_loss] = losses.map(|tracked| tracked.map_or(f64::NAN, |it| it.loss));
        table += &row(&[
            run.learning_rate.to_string(),
            short(run.threshold),
            run.probed.first().map_or_else(|| "–".into(), |it| short(it.margin)),
            short(run.lowest()),
            step(run.arrival()),
            short(quantile(&settled, 0.5)),
            format!("{} to {}", short(quantile(&settled, 0.05)), short(quantile(&settled, 0.95))),
            last.map_or_else(|| "–".into(), |it| extreme_of(it.lambda_max, it.residual)),
            last.map_or_else(|| "–".into(), |it| short(it.margin)),
            format!("{} to {}", short(first_loss), short(last_loss)),
        ]);
    }
    table
}

fn step(step: Option<u64>) -> String {
    step.map_or_else(|| "–".into(), |step| step.to_string())
}

fn rise(driven: &[Risen], control: &[Risen]) -> String {
    let mut table = String::from(
        "| η | seed | largest margin | alarm by the margin | step ratio above 1 | loss 2 % above its lowest | alarm by the loss | steps of warning | loss: lowest, then highest |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for run in driven.iter().chain(control) {
        table += &row(&[
            format!("{} to {}", run.first_rate, run.last_rate),
            run.seed.to_string(),
            short(run.largest_margin),
            step(run.margin_alarm),
            step(run.ratio_above),
            step(run.rise_seen),
            step(run.loss_alarm),
            run.warning().map_or_else(|| "–".into(), |steps| steps.to_string()),
            if run.rise_seen.is_some() {
                format!("{}, {}", short(run.lowest), short(run.highest))
            } else {
                format!("{}, –", short(run.lowest))
            },
        ]);
    }
    table
}

/// Of the first initialisation.
fn changes(driven: &[Risen]) -> String {
    let Some(run) = driven.first() else { return String::new() };
    let mut table = String::from(
        "| after step | margin | by the quadratic model | measured | off by |\n|---|---|---|---|---|\n",
    );
    let risen = run.rise.0..=run.rise.1;
    for change in run.changes.iter().filter(|change| risen.contains(&change.step)) {
        table += &row(&[
            change.step.to_string(),
            short(change.margin),
            short(change.predicted),
            short(change.measured),
            percent((change.predicted / change.measured - 1.0).abs()),
        ]);
    }
    table
}

/// What each limit would have done.
fn limits(study: &Study) -> String {
    let Study { descent, adam, driven, control, .. } = study;
    let mut table = String::from(
        "| `margin` | driven over the edge: steps of warning, least to most | below it: false alarms | gradient descent that has settled: share of its steps above | Adam that has settled |\n|---|---|---|---|---|\n",
    );
    for limit in LIMITS {
        let warnings: Vec<i64> = driven.iter().filter_map(|run| run.warning_of(limit)).collect();
        let missed = driven.len() - warnings.len();
        let range = match (warnings.iter().min(), warnings.iter().max()) {
            (Some(least), Some(most)) if missed == 0 => format!("{least} to {most}"),
            (Some(least), Some(most)) => format!("{least} to {most}, {missed} not at all"),
            _ => "none".into(),
        };
        let alarms = control.iter().filter(|run| run.first_above(limit).is_some()).count();
        let share = |runs: &[Run]| {
            let margins: Vec<f64> = runs.iter().flat_map(Run::settled).collect();
            let above = margins.iter().filter(|margin| **margin > limit).count();
            percent(above as f64 / margins.len() as f64)
        };
        table += &row(&[
            limit.to_string(),
            range,
            format!("{alarms} of {}", control.len()),
            share(descent),
            share(adam),
        ]);
    }
    table
}
