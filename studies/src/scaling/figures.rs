//! The law as figures.

use super::law::{Compared, Law};
use crate::Result;
use crate::figure::{Axes, Marks, Scale, Series, svg};

/// Name and SVG of each.
///
/// # Errors
/// The renderer's.
pub fn all(law: &Law) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![("residuals", residuals(law)?), ("parts", parts(law)?)])
}

/// How far what was foretold of each probe is off, over what it took.
fn residuals(law: &Law) -> Result<String> {
    let series = |label: &str, held_out: bool| {
        let points = law.points.iter().filter(|compared| compared.point.probe.held_out == held_out);
        let points = points.map(|compared| (compared.point.seconds.log10(), 100.0 * compared.residual, None));
        Series { label: label.into(), points: points.collect(), mark: None }
    };
    let series = [series("fitted to", false), series("held out", true)];
    let (low, high) = range(&series);
    svg(
        &Axes {
            title: "time of a probe: foretold against measured".into(),
            x: "measured, s".into(),
            y: "off, %".into(),
            y_range: (low.min(-16.0) - 1.0, high.max(16.0) + 1.0),
            x_scale: Scale::Powers,
            marks: Marks::Scattered,
            ..Axes::default()
        },
        &series,
    )
}

/// Seconds of the parts of probes over n.
fn parts(law: &Law) -> Result<String> {
    let names = ["gradients", "products", "lanczos", "checks", "drawing", "all_reduces"];
    let of = |name: &str, compared: &Compared| {
        let named = compared.point.parts.named();
        let seconds = named.iter().find(|(part, _)| *part == name).map_or(0.0, |(_, seconds)| *seconds);
        (compared.point.sizes.parameters as f64, seconds)
    };
    let series = names.map(|name| {
        let plain = law.points.iter().filter(|compared| !compared.point.calibrates);
        let points = plain.map(|compared| of(name, compared)).filter(|(_, seconds)| *seconds > 0.0);
        Series {
            label: name.into(),
            points: points.map(|(n, seconds)| (n.log10(), seconds.log10(), None)).collect(),
            mark: None,
        }
    });
    let (low, high) = range(&series);
    svg(
        &Axes {
            title: "where the time of a probe goes".into(),
            x: "parameters".into(),
            y: "s".into(),
            y_range: (low.floor(), high.ceil()),
            x_scale: Scale::Powers,
            y_scale: Scale::Powers,
            marks: Marks::Scattered,
            ..Axes::default()
        },
        &series,
    )
}

/// The least and largest y.
fn range(series: &[Series]) -> (f64, f64) {
    let values = series.iter().flat_map(|series| &series.points).map(|point| point.1);
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}
