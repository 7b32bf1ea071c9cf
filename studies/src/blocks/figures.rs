//! The study as figures.

use super::record::{Comparison, OnText, Study};
use crate::Result;
use crate::figure::{Axes, Series, svg};

/// Name and SVG of each.
///
/// # Errors
/// The renderer's.
pub fn all(study: &Study) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![("texts", texts(study)?), ("training", training(study)?)])
}

fn texts(study: &Study) -> Result<String> {
    let numbered = || study.texts.iter().zip(0..).map(|(text, x)| (f64::from(x), text));
    let along = |label: &str, of: fn(&OnText) -> &Comparison, gradient: bool| {
        let point = |(x, text)| value(of(text), gradient).map(|(y, error)| (x, y, error));
        Series { label: label.into(), points: numbered().filter_map(point).collect(), mark: None }
    };
    let series = [
        along("layers, random v", |text| &text.layers, false),
        along("layers, along g", |text| &text.layers, true),
        along("kinds, random v", |text| &text.kinds, false),
        along("kinds, along g", |text| &text.kinds, true),
    ];
    let axes = Axes {
        title: "SmolLM2-135M: what a block-diagonal Hessian misses".into(),
        x: "text".into(),
        y: "‖Hv − H_bd v‖ / ‖Hv‖".into(),
        names: study.texts.iter().map(|text| text.text.clone()).collect(),
        y_range: (0.0, top(&series)),
        ..Axes::default()
    };
    svg(&axes, &series)
}

fn training(study: &Study) -> Result<String> {
    let along = |label: &str, gradient: bool| {
        let point = |point: &super::record::AtStep| {
            value(&point.layers, gradient).map(|(y, error)| (point.step as f64, y, error))
        };
        Series { label: label.into(), points: study.training.iter().filter_map(point).collect(), mark: None }
    };
    let series = [along("layers, random v", false), along("layers, along g", true)];
    let axes = Axes {
        title: "The demo's model while it trains".into(),
        x: "optimizer step".into(),
        y: "‖Hv − H_bd v‖ / ‖Hv‖".into(),
        y_range: (0.0, top(&series)),
        ..Axes::default()
    };
    svg(&axes, &series)
}

fn value(found: &Comparison, gradient: bool) -> Option<(f64, Option<f64>)> {
    let error = if gradient { found.gradient_relative_error } else { found.relative_error };
    error.map(|error| (error.mean, error.standard_error))
}

/// Above everything; the legend is below.
fn top(series: &[Series]) -> f64 {
    let points = series.iter().flat_map(|series| &series.points);
    1.1 * points.map(|(_, y, error)| y + error.unwrap_or(0.0)).fold(0.5, f64::max)
}
