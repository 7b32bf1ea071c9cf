//! The plotting area of a figure, its ticks and their numbers.

use super::canvas::{Canvas, FLOOR, GRID, INK};
use super::glyphs::tick;

/// Pixels of a figure. TensorBoard shows it at about half of that, so that curves are wide and numbers large.
pub(super) const SIZE: (usize, usize) = (560, 340);
/// Room for numbers left of the area and below it, and beyond it on the other sides.
const LEFT: i64 = 64;
const BELOW: i64 = 28;
const MARGIN: i64 = 14;

/// One direction of the area: positions from `low` to `high`, and where numbers stand.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Positions, and what is written there.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Scale {
    /// With ticks at these positions, each with the number that stands there.
    pub(super) fn new((low, high): (f64, f64), ticks: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let ticks = ticks.into_iter().map(|(position, value)| (position, tick(value))).collect();
        // A range of nothing has its only position in the middle.
        if low < high { Self { low, high, ticks } } else { Self { low: low - 0.5, high: low + 0.5, ticks } }
    }

    /// A number of eigenvalues on a logarithmic scale.
    pub(super) fn decades(low: f64, high: f64) -> Self {
        let stride = ((high - low) / 6.0).ceil().max(1.0) as i32;
        let exponents = (low.ceil() as i32..=high.floor() as i32).filter(|exponent| exponent % stride == 0);
        let ticks = exponents.map(|exponent| (f64::from(exponent), 10_f64.powi(exponent)));
        Self::new((low, high), ticks)
    }

    fn share(&self, position: f64) -> f64 {
        (position - self.low) / (self.high - self.low)
    }
}

/// Where positions are, in pixels.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    x: Scale,
    y: Scale,
}

impl Frame {
    pub(super) fn new(x: Scale, y: Scale) -> Self {
        Self { x, y }
    }

    /// The first and the last column of the area.
    pub(super) const COLUMNS: (i64, i64) = (LEFT, SIZE.0 as i64 - MARGIN - 1);
    /// The topmost and the lowest row.
    pub(super) const ROWS: (i64, i64) = (MARGIN, SIZE.1 as i64 - BELOW - 1);
    /// Rows of the area.
    pub(super) const HEIGHT: usize = (Self::ROWS.1 - Self::ROWS.0 + 1) as usize;

    /// The column of a position.
    pub(super) fn column(&self, x: f64) -> i64 {
        pixel(Self::COLUMNS, self.x.share(x))
    }

    /// The row of a position.
    pub(super) fn row(&self, y: f64) -> i64 {
        pixel(Self::ROWS, 1.0 - self.y.share(y))
    }

    /// The position of a column.
    pub(super) fn x(&self, column: i64) -> f64 {
        let share = (column - Self::COLUMNS.0) as f64 / (Self::COLUMNS.1 - Self::COLUMNS.0) as f64;
        self.x.low + share * (self.x.high - self.x.low)
    }

    /// The position of a row.
    pub(super) fn y(&self, row: i64) -> f64 {
        let share = (Self::ROWS.1 - row) as f64 / (Self::ROWS.1 - Self::ROWS.0) as f64;
        self.y.low + share * (self.y.high - self.y.low)
    }

    /// Lines across the area at its ticks: to be drawn below all else.
    pub(super) fn grid(&self, canvas: &mut Canvas) {
        for (position, _) in &self.x.ticks {
            let column = self.column(*position);
            canvas.fill((column, Self::ROWS.0), (column, Self::ROWS.1), GRID);
        }
        for (position, _) in &self.y.ticks {
            let row = self.row(*position);
            canvas.fill((Self::COLUMNS.0, row), (Self::COLUMNS.1, row), GRID);
        }
    }

    /// The area's edge, ticks and numbers: to be drawn last.
    pub(super) fn numbers(&self, canvas: &mut Canvas) {
        let ((left, right), (top, bottom)) = (Self::COLUMNS, Self::ROWS);
        canvas.fill((left - 1, top), (left - 1, bottom + 1), FLOOR);
        canvas.fill((left - 1, bottom + 1), (right, bottom + 1), FLOOR);
        for (position, number) in &self.x.ticks {
            let column = self.column(*position);
            canvas.fill((column, bottom + 1), (column, bottom + 5), FLOOR);
            canvas.text((column, bottom + 10), number, INK);
        }
        for (position, number) in &self.y.ticks {
            let row = self.row(*position);
            canvas.fill((left - 5, row), (left - 1, row), FLOOR);
            let middle = left - 10 - Canvas::text_width(number.chars().count()) / 2;
            canvas.text((middle, row - Canvas::TEXT / 2), number, INK);
        }
    }
}

fn pixel((first, last): (i64, i64), share: f64) -> i64 {
    // Saturates: what is far outside stays outside.
    first + ((last - first) as f64 * share.clamp(-1.0, 2.0)).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_pixels_belong_together() {
        let frame = Frame::new(Scale::new((-3.0, 5.0), [(0.0, 0.0)]), Scale::decades(-2.0, 4.0));
        assert_eq!((frame.column(-3.0), frame.column(5.0)), Frame::COLUMNS);
        assert_eq!((frame.row(4.0), frame.row(-2.0)), Frame::ROWS);
        for column in [Frame::COLUMNS.0, 300, Frame::COLUMNS.1] {
            assert_eq!(frame.column(frame.x(column)), column);
        }
        assert_eq!(frame.row(frame.y(200)), 200);
        assert!(frame.column(1e300) > SIZE.0 as i64 && frame.column(f64::NEG_INFINITY) < 0);
        let one = Scale::new((7.0, 7.0), []);
        assert_eq!((one.low, one.high), (6.5, 7.5));
        assert!(Scale::decades(-2.0, 300.0).ticks.len() <= 8);
    }
}
