//! The constants of this machine, from the points that are not held out.

use super::least_squares::{Row, fit, r_squared};
use super::points::Point;
use crate::Result;
use hessian_probe::cost::{Machine, Work};
use serde::Serialize;

/// A share of the law: how well it fits what it was fitted to.
#[derive(Debug, Serialize)]
pub struct Quality {
    pub part: &'static str,
    pub points: usize,
    pub r_squared: f64,
    /// The median of |foretold / measured − 1|.
    pub residual: f64,
}

/// The time of a gradient of these models.
#[derive(Clone, Debug, Serialize)]
pub struct GradientLaw {
    /// Seconds of a block and micro-batch, of a parameter and token, of a byte gathered, and of one reduced.
    pub block: f64,
    pub operation: f64,
    pub gathered: f64,
    pub reduced: f64,
}

impl GradientLaw {
    pub fn features(point: &Point) -> Vec<f64> {
        let work = point.sizes.parameters as f64 * point.sizes.tokens as f64 / point.ranks as f64;
        vec![point.sizes.blocks as f64, work, point.sizes.gathered as f64, point.sizes.reduced as f64]
    }

    pub fn seconds(&self, point: &Point) -> f64 {
        let features = Self::features(point);
        let own = [self.block, self.operation, self.gathered, self.reduced];
        features.iter().zip(own).map(|(feature, coefficient)| feature * coefficient).sum()
    }
}

/// What is fitted.
#[derive(Debug, Serialize)]
pub struct Fitted {
    pub machine: Machine,
    pub gradient: Option<GradientLaw>,
    /// The share of products computed again.
    pub redone: f64,
    /// Distances of a calibration.
    pub distances: u64,
    pub quality: Vec<Quality>,
}

/// Where a constant is not determined: no time.
const LEAST: f64 = 1e-18;

impl Fitted {
    /// Fits the law to `points`.
    pub fn to(points: &[&Point]) -> Result<Self> {
        let rows = |of: &dyn Fn(&Point, &Work) -> Vec<Row>| -> Vec<Row> {
            points.iter().flat_map(|point| of(point, &point.work)).collect()
        };
        // Bytes of each kind, and the pieces that they come in.
        let passes = rows(&|point, work| {
            let row = |place: usize, bytes: u64, pieces: u64, value: f64| {
                let mut features = vec![0.0; 4];
                (features[place], features[3]) = (bytes as f64, pieces as f64);
                Row { features, value }
            };
            let parts = point.parts;
            vec![
                row(0, work.products.bytes, work.products.pieces, parts.products),
                row(1, work.lanczos.bytes, work.lanczos.pieces, parts.lanczos),
                row(2, work.saving.bytes, work.saving.pieces, parts.saving),
            ]
        });
        let one = |value: u64, seconds: f64| vec![Row { features: vec![value as f64], value: seconds }];
        let drawing = rows(&|point, work| one(work.drawn, point.parts.drawing));
        let checks = rows(&|point, work| {
            if work.checked > 0 { one(work.checked, point.parts.checks) } else { Vec::new() }
        });
        let reductions = rows(&|point, work| {
            let doublings = (point.ranks as f64).log2();
            let features = vec![doublings * work.all_reduces as f64, doublings * work.reduced_values as f64];
            if point.ranks > 1 { vec![Row { features, value: point.parts.all_reduces }] } else { Vec::new() }
        });
        let gradients = rows(&|point, _| {
            vec![Row { features: GradientLaw::features(point), value: point.gradient_seconds }]
        });
        let solved = |rows: &[Row]| fit(rows);
        let bandwidths = solved(&passes).ok_or("no vector work was measured")?;
        let drawn = solved(&drawing).ok_or("no drawing was measured")?;
        let check = solved(&checks);
        let reduction = solved(&reductions).unwrap_or(vec![0.0; 2]);
        let gradient = solved(&gradients);
        let mut others: Vec<f64> = points.iter().map(|point| point.parts.other).collect();
        others.sort_by(f64::total_cmp);
        let rate = |seconds: f64| seconds.max(LEAST).recip();
        // What small models do not tell apart from the time of pieces is taken to be as fast as the fastest that they do.
        let fastest =
            bandwidths[..3].iter().copied().filter(|&seconds| seconds > 0.0).fold(f64::INFINITY, f64::min);
        let fastest = if fastest.is_finite() { fastest } else { LEAST };
        let bandwidth = |seconds: f64| rate(if seconds > 0.0 { seconds } else { fastest });
        let machine = Machine {
            product_bandwidth: bandwidth(bandwidths[0]),
            lanczos_bandwidth: bandwidth(bandwidths[1]),
            copy_bandwidth: bandwidth(bandwidths[2]),
            // There is no other memory here.
            link_bandwidth: bandwidth(bandwidths[2]),
            multiplications: rate(check.as_ref().map_or(0.0, |check| check[0])),
            drawn: rate(drawn[0]),
            piece_seconds: bandwidths[3],
            all_reduce_seconds: reduction[0],
            value_seconds: reduction[1],
            fixed_seconds: median(&others),
        };
        let mut quality = Vec::new();
        for (part, rows, coefficients) in [
            ("vector work", &passes, Some(&bandwidths)),
            ("drawing", &drawing, Some(&drawn)),
            ("checks", &checks, check.as_ref()),
            ("all_reduces", &reductions, Some(&reduction)),
            ("one gradient", &gradients, gradient.as_ref()),
        ] {
            let Some(coefficients) = coefficients.filter(|_| !rows.is_empty()) else { continue };
            let pairs: Vec<(f64, f64)> = rows
                .iter()
                .map(|row| {
                    let found = row.features.iter().zip(coefficients).map(|(x, c)| x * c).sum::<f64>();
                    (row.value, found)
                })
                .collect();
            let off: Vec<f64> = pairs.iter().map(|(value, found)| (found / value - 1.0).abs()).collect();
            quality.push(Quality {
                part,
                points: pairs.len(),
                r_squared: r_squared(&pairs),
                residual: median(&off),
            });
        }
        let total = |of: &dyn Fn(&Point) -> u64| points.iter().map(|point| of(point)).sum::<u64>() as f64;
        let distances: Vec<f64> =
            points.iter().filter_map(|point| point.distances).map(|count| count as f64).collect();
        Ok(Self {
            machine,
            gradient: gradient.map(|law| GradientLaw {
                block: law[0],
                operation: law[1],
                gathered: law[2],
                reduced: law[3],
            }),
            redone: total(&|point| point.redone) / total(&|point| point.products).max(1.0),
            distances: (median(&distances).round() as u64).clamp(1, 4),
            quality,
        })
    }
}

/// NaN where there are no values; of an even number, the mean of the middle two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => 0.5 * (sorted[len / 2 - 1] + sorted[len / 2]),
    }
}
