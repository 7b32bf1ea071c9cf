//! The density over steps.

use super::canvas::{Canvas, Color, FLOOR};
use super::frame::{Frame, SIZE, Scale};
use crate::spectrum::{Axis, DensityOverSteps};

/// Steps to the right, eigenvalues upwards; two dotted lines are the noise.
pub(super) fn draw(found: &DensityOverSteps) -> Option<Canvas> {
    let (first, last) = (found.columns.first()?.step as f64, found.columns.last()?.step as f64);
    let (low, high) = (*found.positions.first()?, *found.positions.last()?);
    let steps = Axis::Linear.ticks(first, last, 7);
    let x = Scale::new((first, last), steps.into_iter().map(|step| (step, step)));
    let values = found.axis.ticks(low, high, 9);
    let y = Scale::new((low, high), values.into_iter().map(|value| (found.axis.position(value), value)));
    let frame = Frame::new(x, y);
    let mut canvas = Canvas::new(SIZE.0, SIZE.1);
    let top = found.top();
    for x in Frame::COLUMNS.0..=Frame::COLUMNS.1 {
        let shown = &found.columns[found.column_at(frame.x(x))];
        for row in Frame::ROWS.0..=Frame::ROWS.1 {
            let per_decade = shown.per_decade[found.place_at(frame.y(row))].mean;
            canvas.set(x, row, Color::heat(DensityOverSteps::level(top, per_decade)));
        }
        if x % 4 < 2 {
            for floor in [-shown.floor, shown.floor] {
                let row = frame.row(found.axis.position(floor));
                if shown.floor > 0.0 && (Frame::ROWS.0..=Frame::ROWS.1).contains(&row) {
                    canvas.set(x, row, FLOOR);
                }
            }
        }
    }
    frame.numbers(&mut canvas);
    Some(canvas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spectrum::{ProbeRecord, SpectrumAt};

    #[test]
    fn each_step_has_its_colours_as_far_as_half_way_to_the_next() {
        let at = |step, node: f64| SpectrumAt {
            step,
            parameters: 100,
            floor: 0.0,
            // Nodes without weight make the others narrow.
            probes: vec![ProbeRecord {
                nodes: [&[-1.0, node][..], &[1.0; 20]].concat(),
                weights: [&[0.5, 0.5][..], &[0.0; 20]].concat(),
                ..ProbeRecord::default()
            }],
        };
        let found = DensityOverSteps::new([&at(0, 1.0), &at(100, 0.01)], 400).unwrap();
        let canvas = draw(&found).unwrap();
        let frame = Frame::new(
            Scale::new((0.0, 100.0), []),
            Scale::new((found.positions[0], found.positions[399]), []),
        );
        let white = Color::heat(0.0);
        let seen = |step: f64, value: f64| {
            let (x, y) = (frame.column(step), frame.row(found.axis.position(value)));
            canvas.color(x as usize, y as usize) != white
        };
        assert!(seen(10.0, 1.0) && seen(49.0, 1.0) && !seen(51.0, 1.0) && !seen(90.0, 1.0));
        assert!(!seen(10.0, 0.01) && seen(90.0, 0.01) && seen(10.0, -1.0) && seen(90.0, -1.0));
    }
}
