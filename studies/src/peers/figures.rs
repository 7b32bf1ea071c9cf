//! The study as a figure.

use super::record::{Figures, Peer, Study};
use super::task::{AUTO, DIFFERENCE, OURS};
use crate::Result;
use crate::figure::{Axes, Series, svg};

/// Name and SVG of each.
///
/// # Errors
/// The renderer's.
pub fn all(study: &Study) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![("cost", cost(study)?)])
}

/// Time and memory of a product, in gradients, for each of those that could be measured.
fn cost(study: &Study) -> Result<String> {
    let measured: Vec<(&Peer, &Figures)> =
        study.compared().filter_map(|peer| Some((peer, peer.figures()?))).collect();
    let series = |label: &str, of: &dyn Fn(&Figures) -> Option<f64>| {
        let points = measured.iter().enumerate();
        let points = points.filter_map(|(index, (_, figures))| Some((index as f64, of(figures)?, None)));
        Series { label: label.into(), points: points.collect(), mark: None }
    };
    let series = [
        series("time", &|figures| Some(figures.product_cost())),
        series("working memory", &|figures| {
            let (gradient, product) = figures.working_memory()?;
            Some(product / gradient)
        }),
    ];
    let highest = series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(1.0, f64::max);
    let axes = Axes {
        title: format!("{}: a Hessian-vector product in gradients of the same framework", study.model),
        x: String::new(),
        y: "product ÷ gradient".into(),
        names: measured.iter().map(|(peer, _)| short(peer)).collect(),
        y_range: (0.0, highest.ceil()),
        ..Axes::default()
    };
    svg(&axes, &series)
}

/// There is little room.
fn short(peer: &Peer) -> String {
    let library = match peer.library.as_str() {
        OURS => "ours",
        "hessian-eigenthings" => "eigenthings",
        other => other,
    };
    match peer.products.as_str() {
        AUTO | DIFFERENCE => format!("{library}, diff."),
        _ => library.to_owned(),
    }
}
