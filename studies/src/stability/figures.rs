//! The study as figures.

use super::record::{Risen, Run, Study};
use crate::Result;
use crate::figure::{Axes, Marks, Series, svg};
use crate::number::short;

/// Name and SVG of each.
///
/// # Errors
/// The renderer's.
pub fn all(study: &Study) -> Result<Vec<(&'static str, String)>> {
    let Study { descent, free, adam, driven, control } = study;
    Ok(vec![
        ("descent", eigenvalues(descent.iter().chain([free]))?),
        ("adam", margins(adam)?),
        ("driven", rise("A learning rate that rises over the edge; circles: the alarms", driven)?),
        ("control", rise("A learning rate that rises and stays below the edge", control)?),
    ])
}

fn eigenvalues<'a>(runs: impl Iterator<Item = &'a Run>) -> Result<String> {
    let series: Vec<Series> = runs
        .map(|run| Series {
            label: format!("η = {}, 2/η = {}", run.learning_rate, short(run.threshold)),
            points: run
                .tracked
                .iter()
                .map(|tracked| (tracked.step as f64, tracked.lambda_max, None))
                .collect(),
            mark: None,
        })
        .collect();
    svg(&axes("Gradient descent on the digits", "λ_max", 11.0), &series)
}

fn margins(runs: &[Run]) -> Result<String> {
    let series: Vec<Series> = runs
        .iter()
        .map(|run| Series {
            label: format!("η = {}, 38/η = {}", run.learning_rate, short(38.0 / run.learning_rate)),
            points: run
                .tracked
                .iter()
                .map(|tracked| (tracked.step as f64, tracked.margin.min(TOP), None))
                .collect(),
            mark: None,
        })
        .chain(std::iter::once(edge(runs.iter().map(|run| run.steps).max())))
        .collect();
    svg(&axes("Adam on the text", "margin", TOP), &series)
}

/// Of the first initialisation: margin, share of the critical step, and loss over its first value.
fn rise(title: &str, runs: &[Risen]) -> Result<String> {
    let Some(run) = runs.first() else { return Err("no run".into()) };
    let first = run.tracked.first().map_or(f64::NAN, |tracked| tracked.loss);
    let at = |step: Option<u64>, of: &dyn Fn(&super::record::Tracked) -> f64| {
        let found = run.tracked.iter().find(|tracked| Some(tracked.step) == step)?;
        Some((found.step as f64, of(found)))
    };
    let line = |of: &dyn Fn(&super::record::Tracked) -> f64| {
        run.tracked.iter().map(|tracked| (tracked.step as f64, of(tracked).min(TOP), None)).collect()
    };
    let margin = |tracked: &super::record::Tracked| tracked.margin;
    let loss = |tracked: &super::record::Tracked| tracked.loss / first;
    let ratios = run.step_ratios.iter().map(|&(step, ratio)| (step as f64, ratio.min(TOP), None));
    let series = [
        Series { label: "margin".into(), points: line(&margin), mark: at(run.margin_alarm, &margin) },
        Series { label: "loss ÷ the first".into(), points: line(&loss), mark: at(run.loss_alarm, &loss) },
        Series { label: "share of the critical step".into(), points: ratios.collect(), mark: None },
        edge(Some(run.steps)),
    ];
    svg(&axes(title, "ratio", TOP), &series)
}

/// What is above is drawn there.
const TOP: f64 = 2.5;

/// The threshold.
fn edge(steps: Option<u64>) -> Series {
    let end = steps.unwrap_or(0) as f64;
    Series { label: "1".into(), points: vec![(0.0, 1.0, None), (end, 1.0, None)], mark: None }
}

fn axes(title: &str, y: &str, top: f64) -> Axes {
    Axes {
        title: title.into(),
        x: "optimizer step".into(),
        y: y.into(),
        y_range: (0.0, top),
        marks: Marks::Lines,
        ..Axes::default()
    }
}
