//! The study as figures.

use super::record::{Run, Study};
use crate::Result;
use crate::figure::{Axes, Series, svg};

/// Name and SVG of each.
///
/// # Errors
/// The renderer's.
pub fn all(study: &Study) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("descent", margins("Gradient descent: λ_max over 2/η", &study.descent)?),
        ("adam", margins("Adam: preconditioned λ_max over 38/η", &study.adam)?),
    ])
}

fn margins(title: &str, runs: &[Run]) -> Result<String> {
    let series: Vec<Series> = runs
        .iter()
        .map(|run| Series {
            label: format!("η = {}", run.learning_rate),
            points: run.tracked.iter().map(|tracked| (tracked.step as f64, tracked.margin, None)).collect(),
            mark: None,
        })
        .collect();
    let axes = Axes {
        title: title.into(),
        x: "optimizer step".into(),
        y: "margin".into(),
        names: Vec::new(),
        y_range: (0.0, 2.0),
        logarithmic: false,
        dense: true,
    };
    svg(&axes, &series)
}
