//! The density at one step, with its band and what the noise hides.

use super::scale::Scale;
use super::style::{BAND, CURVE, Format, ZONE};
use super::{Chart, Drawn, Plot};
use hessian_probe::spectrum::{Axis, DensityColumn, DensityOverSteps, Estimate, FEWEST};
use plotters::prelude::*;

pub struct DensityPlot<'a> {
    found: &'a DensityOverSteps,
    column: &'a DensityColumn,
    x: Scale,
    y: Scale,
    operator: &'a str,
}

impl<'a> DensityPlot<'a> {
    /// `index` is that of a column. All columns have the same axes, so that steps can be compared.
    pub fn new(found: &'a DensityOverSteps, index: usize, operator: &'a str) -> Option<Self> {
        let column = found.columns.get(index)?;
        let reach = (*found.positions.first()?, *found.positions.last()?);
        let x = Scale::new(found.axis, reach, format!("eigenvalue λ of {operator}"));
        // ln of a number, whatever its size: the linear part of the axis is out of sight.
        let y = Self::upward(found);
        Some(Self { found, column, x, y, operator })
    }

    /// A logarithmic scale of eigenvalues for each decade.
    fn upward(found: &DensityOverSteps) -> Scale {
        let axis = Axis::SymmetricLog { threshold: THRESHOLD };
        let range = (axis.position(FEWEST), axis.position(10_f64.powf(found.top())));
        Scale::new(axis, range, "eigenvalues per decade of |λ|")
    }
}

/// So far below [`FEWEST`] that the scale is a logarithm.
const THRESHOLD: f64 = 1e-6 * FEWEST;

/// Neighbouring points that are there, one list for each stretch of them.
fn stretches<T>(points: impl Iterator<Item = Option<T>>) -> Vec<Vec<T>> {
    let mut all: Vec<Vec<T>> = Vec::new();
    for point in points {
        match (point, all.last_mut()) {
            (Some(point), Some(last)) => last.push(point),
            (Some(point), None) => all.push(vec![point]),
            (None, _) => all.push(Vec::new()),
        }
    }
    all.retain(|stretch| !stretch.is_empty());
    all
}

impl Plot for DensityPlot<'_> {
    fn name(&self) -> &'static str {
        "density"
    }

    fn title(&self) -> String {
        format!("Spectral density of {} at step {}", self.operator, self.column.step)
    }

    fn scales(&self) -> (&Scale, &Scale) {
        (&self.x, &self.y)
    }

    fn behind<DB: DrawingBackend>(&self, chart: &mut Chart<'_, DB>, _: &Format) -> Drawn<()>
    where
        DB::ErrorType: 'static,
    {
        let [low, high] = [-self.column.floor, self.column.floor].map(|floor| self.x.position(floor));
        if low < high {
            let zone = Rectangle::new([(low, self.y.low), (high, self.y.high)], ZONE.filled());
            chart.draw_series([zone])?;
        }
        Ok(())
    }

    fn draw<DB: DrawingBackend>(&self, chart: &mut Chart<'_, DB>, _: &Format) -> Drawn<()>
    where
        DB::ErrorType: 'static,
    {
        let places = || self.found.positions.iter().zip(&self.column.per_decade);
        let height = |per_decade: f64| self.y.position(per_decade.max(FEWEST));
        let band = |(&place, point): (&f64, &Estimate)| {
            let error = point.standard_error.filter(|error| error.is_finite())?;
            let (low, high) = (height(point.mean - error), height(point.mean + error));
            (high > self.y.low).then_some((place, low, high))
        };
        for stretch in stretches(places().map(band)) {
            let upper = stretch.iter().map(|&(place, _, high)| (place, high));
            let lower = stretch.iter().rev().map(|&(place, low, _)| (place, low));
            chart.draw_series([Polygon::new(upper.chain(lower).collect::<Vec<_>>(), BAND.filled())])?;
        }
        let seen =
            |(&place, point): (&f64, &Estimate)| (point.mean > FEWEST).then(|| (place, height(point.mean)));
        for stretch in stretches(places().map(seen)) {
            chart.draw_series(LineSeries::new(stretch, CURVE.stroke_width(4)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_end_a_stretch() {
        let points = [None, Some(1), Some(2), None, None, Some(3), None];
        assert_eq!(stretches(points.into_iter()), [vec![1, 2], vec![3]]);
        assert!(stretches::<i32>([None, None].into_iter()).is_empty());
    }
}
