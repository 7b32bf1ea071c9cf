//! The study as figures.

use super::record::{InPrecision, Model, Study, Sweep};
use crate::Result;
use crate::figure::{Axes, Scale, Series, svg};
use hessian_probe::regimes::DirectionKind;

/// Errors above it say nothing more: 1000 %.
const CUT: f64 = 10.0;

/// Name and SVG of each.
///
/// # Errors
/// The renderer's.
pub fn all(study: &Study) -> Result<Vec<(&'static str, String)>> {
    let single = [("f32", DirectionKind::Random), ("f32", DirectionKind::Top)];
    let half = [("bf16-compute", DirectionKind::Random), ("bf16-compute", DirectionKind::Top)];
    let double = [("f64", DirectionKind::Random)];
    Ok(vec![
        ("demo", errors(&study.demo, &[&single[..], &half, &double].concat())?),
        ("smollm2", errors(&study.smollm2, &single)?),
    ])
}

/// Errors over steps.
fn errors(model: &Model, shown: &[(&str, DirectionKind)]) -> Result<String> {
    let sweep = |&(name, direction)| {
        let precision = model.precision(name)?;
        Some(curve(precision, direction, precision.sweep(direction)?))
    };
    let series: Vec<Series> = shown.iter().filter_map(sweep).collect();
    let axes = Axes {
        title: format!("{}: error of Hv by central differences; circles: the automatic step", model.name),
        x: "step h".into(),
        y: "relative error".into(),
        y_range: (lowest(&series).floor(), CUT.log10()),
        x_scale: Scale::Powers,
        y_scale: Scale::Powers,
        ..Axes::default()
    };
    svg(&axes, &series)
}

fn curve(precision: &InPrecision, direction: DirectionKind, sweep: &Sweep) -> Series {
    let within = |error: f64| error > 0.0 && error <= CUT;
    let points = sweep.points.iter().filter(|point| within(point.error));
    let chosen = sweep.automatic;
    Series {
        label: format!("{}, {direction}", precision.name),
        points: points.map(|point| (point.step.log10(), point.error.log10(), None)).collect(),
        mark: within(chosen.error).then(|| (chosen.step.log10(), chosen.error.log10())),
    }
}

fn lowest(series: &[Series]) -> f64 {
    series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::min)
}
