//! The density at one step, with its band over probe vectors and what the noise hides.

use super::canvas::{BAND, CURVE, Canvas, ZONE};
use super::frame::{Frame, SIZE, Scale};
use crate::spectrum::{DensityColumn, DensityOverSteps, FEWEST};

/// The density of the last column.
pub(super) fn draw(found: &DensityOverSteps) -> Option<Canvas> {
    let column = found.columns.last()?;
    let (low, high) = (*found.positions.first()?, *found.positions.last()?);
    let ticks = found.axis.ticks(low, high, 9);
    let x = Scale::new((low, high), ticks.into_iter().map(|value| (found.axis.position(value), value)));
    let frame = Frame::new(x, Scale::decades(FEWEST.log10(), found.top()));
    let mut canvas = Canvas::new(SIZE.0, SIZE.1);
    let hidden = [-column.floor, column.floor].map(|value| frame.column(found.axis.position(value)));
    let inside = hidden.map(|x| x.clamp(Frame::COLUMNS.0, Frame::COLUMNS.1));
    if inside[0] < inside[1] {
        canvas.fill((inside[0], Frame::ROWS.0), (inside[1], Frame::ROWS.1), ZONE);
    }
    frame.grid(&mut canvas);
    curve(&mut canvas, &frame, column, found);
    frame.numbers(&mut canvas);
    Some(canvas)
}

fn curve(canvas: &mut Canvas, frame: &Frame, column: &DensityColumn, found: &DensityOverSteps) {
    let row = |per_decade: f64| frame.row(per_decade.max(FEWEST).log10()).max(Frame::ROWS.0);
    let at = |x: i64| {
        let index = found.place_at(frame.x(x));
        column.per_decade.get(index).filter(|point| point.mean.is_finite())
    };
    for x in Frame::COLUMNS.0..=Frame::COLUMNS.1 {
        let Some(point) = at(x) else { continue };
        if let Some(error) = point.standard_error.filter(|error| error.is_finite()) {
            let (lower, upper) = (row(point.mean - error), row(point.mean + error));
            if upper < Frame::ROWS.1 {
                canvas.fill((x, upper), (x, lower), BAND);
            }
        }
    }
    let mut before = None;
    for x in Frame::COLUMNS.0..=Frame::COLUMNS.1 {
        let Some(point) = at(x) else { continue };
        let here = row(point.mean);
        let from = before.unwrap_or(here);
        // Where there is next to nothing the curve lies on the edge: gaps stay gaps.
        if here < Frame::ROWS.1 || from < Frame::ROWS.1 {
            canvas.fill((x - 1, from.min(here)), (x + 1, from.max(here) + 1), CURVE);
        }
        before = Some(here);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;
    use crate::spectrum::SpectrumAt;

    #[test]
    fn curve_band_and_zone_are_drawn_where_there_are_any() {
        let snapshot = fixture::snapshot(0);
        let mut spectrum = SpectrumAt::of(&snapshot);
        spectrum.probes[1].nodes[0] *= 1.5;
        let found = DensityOverSteps::new([&spectrum], 600).unwrap();
        let canvas = draw(&found).unwrap();
        assert!(canvas.count(CURVE) > 300 && canvas.count(BAND) > 100 && canvas.count(ZONE) > 1000);
        spectrum.probes.truncate(1);
        spectrum.floor = 0.0;
        let canvas = draw(&DensityOverSteps::new([&spectrum], 600).unwrap()).unwrap();
        assert!(canvas.count(CURVE) > 300);
        assert_eq!((canvas.count(BAND), canvas.count(ZONE)), (0, 0), "one probe vector, and no noise");
    }
}
