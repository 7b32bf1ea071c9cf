//! The study as figures: the U-curves.

use super::record::{Model, Study, Sweep};
use crate::Result;
use crate::figure::{Axes, Series, svg};
use hessian_probe::regimes::DirectionKind;

/// Name and SVG of each.
///
/// # Errors
/// The renderer's.
pub fn all(study: &Study) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("random", curves(&study.model, DirectionKind::Random)?),
        ("top", curves(&study.model, DirectionKind::Top)?),
    ])
}

fn curves(model: &Model, direction: DirectionKind) -> Result<String> {
    let along = |sweep: &&Sweep| sweep.direction == direction;
    let series = model.precisions.iter().filter_map(|precision| {
        let sweep = precision.sweeps.iter().find(along)?;
        // What is ten times off and what is a thousand times off are equally useless.
        let points = sweep.points.iter().map(|point| (point.step, point.error.clamp(1e-8, 10.0), None));
        Some(Series { label: precision.name.clone(), points: points.collect() })
    });
    let vector =
        if direction == DirectionKind::Random { "a random vector" } else { "near the top eigenvector" };
    let axes = Axes {
        title: format!("{}: products along {vector}", model.name),
        x: "step h, for a unit vector".into(),
        y: "‖w − Hv‖ / ‖Hv‖, central differences".into(),
        names: Vec::new(),
        y_range: (1e-8, 1e2),
        logarithmic: true,
    };
    svg(&axes, &series.collect::<Vec<_>>())
}
