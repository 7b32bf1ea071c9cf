//! With which power of its quantities each part grows.

use super::least_squares::{Row, power_law};
use super::points::Point;
use serde::Serialize;

/// seconds ∝ Π quantityᵉˣᵖᵒⁿᵉⁿᵗ.
#[derive(Debug, Serialize)]
pub struct PowerLaw {
    pub part: &'static str,
    pub exponents: Vec<(&'static str, f64)>,
    pub r_squared: f64,
    pub points: usize,
}

type Quantity = (&'static str, fn(&Point) -> f64);

const ENTRIES: Quantity = ("n / ranks", |point| point.sizes.entries as f64);
const RANKS: Quantity = ("ranks", |point| point.ranks as f64);
const STEPS: Quantity = ("m", |point| point.probe.steps as f64);
const VECTORS: Quantity = ("r", |point| point.probe.vectors as f64);
const WORK: Quantity = ("n · tokens / ranks", |point| {
    point.sizes.parameters as f64 * point.sizes.tokens as f64 / point.ranks as f64
});

/// The power laws of all points that do not measure the noise. A quantity that does not vary is left out.
pub fn power_laws(points: &[Point]) -> Vec<PowerLaw> {
    let plain: Vec<&Point> = points.iter().filter(|point| !point.calibrates).collect();
    let several: Vec<&Point> = plain.iter().copied().filter(|point| point.ranks > 1).collect();
    let kept = |full: bool| -> Vec<&Point> {
        plain.iter().copied().filter(|point| (point.work.checked > 0) == full).collect()
    };
    let (full, none) = (kept(true), kept(false));
    let a_product = |point: &Point| point.parts.products / (point.products + point.redone).max(1) as f64;
    [
        law("one gradient", &plain, &[WORK, RANKS], &|point| point.gradient_seconds),
        law("vectors of a product", &plain, &[ENTRIES], &a_product),
        law("Lanczos, full", &full, &[ENTRIES, STEPS, VECTORS], &|point| point.parts.lanczos),
        law("Lanczos, none or window", &none, &[ENTRIES, STEPS, VECTORS], &|point| point.parts.lanczos),
        law("drawing", &plain, &[ENTRIES, VECTORS], &|point| point.parts.drawing),
        law("saving", &plain, &[ENTRIES], &|point| point.parts.saving),
        law("an all_reduce", &several, &[RANKS], &|point| {
            point.parts.all_reduces / point.work.all_reduces as f64
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn law(
    part: &'static str,
    points: &[&Point],
    quantities: &[Quantity],
    value: &dyn Fn(&Point) -> f64,
) -> Option<PowerLaw> {
    let varies = |quantity: &&Quantity| {
        let first = points.first().map(|point| quantity.1(point));
        points.iter().any(|point| Some(quantity.1(point)) != first)
    };
    let quantities: Vec<&Quantity> = quantities.iter().filter(varies).collect();
    if quantities.is_empty() {
        return None;
    }
    let rows: Vec<Row> = points
        .iter()
        .map(|point| Row {
            features: quantities.iter().map(|quantity| quantity.1(point)).collect(),
            value: value(point),
        })
        .collect();
    let (exponents, r_squared) = power_law(&rows)?;
    let exponents = quantities.iter().map(|quantity| quantity.0).zip(exponents).collect();
    Some(PowerLaw { part, exponents, r_squared, points: rows.len() })
}
