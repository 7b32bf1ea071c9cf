//! From values to positions on an axis, and the numbers that stand at it.

use crate::number::tick;
use hessian_probe::spectrum::Axis;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use std::ops::Range;

/// One direction of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    pub axis: Axis,
    /// Positions.
    pub low: f64,
    pub high: f64,
    pub name: String,
}

impl Scale {
    /// Positions from `low` to `high`; where they are one, or none, it is in the middle.
    pub fn new(axis: Axis, (low, high): (f64, f64), name: impl Into<String>) -> Self {
        let (low, high) = match (low.is_finite() && high.is_finite(), low < high) {
            (true, true) => (low, high),
            (true, false) => (low - 0.5 * low.abs().max(1.0), low + 0.5 * low.abs().max(1.0)),
            (false, _) => (-1.0, 1.0),
        };
        Self { axis, low, high, name: name.into() }
    }

    /// That suits values and their errors: linear, or symmetric-logarithmic where they span more than a decade.
    pub fn of(values: &[(f64, f64)], zero: bool, name: impl Into<String>) -> Self {
        let magnitudes =
            || values.iter().map(|(value, _)| value.abs()).filter(|size| *size > 0.0 && size.is_finite());
        let largest = magnitudes().fold(0.0, f64::max);
        let smallest = magnitudes().fold(f64::INFINITY, f64::min);
        let axis = if largest > 10.0 * smallest {
            // Down to the smallest value, six decades at most.
            Axis::SymmetricLog { threshold: (0.5 * smallest).max(1e-6 * largest) }
        } else {
            Axis::Linear
        };
        let ends = values.iter().flat_map(|(value, error)| {
            let error = if error.is_finite() { error.abs() } else { 0.0 };
            [axis.position(value - error), axis.position(value + error)]
        });
        let ends = ends.chain(zero.then_some(0.0)).filter(|end| end.is_finite());
        let (low, high) =
            ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), end| (low.min(end), high.max(end)));
        let margin = 0.06 * (high - low);
        Self::new(axis, (low - margin, high + margin), name)
    }

    /// Steps of training, with room for the marks of the first and the last.
    pub fn steps(first: f64, last: f64) -> Self {
        let margin = 0.02 * (last - first);
        Self::new(Axis::Linear, (first - margin, last + margin), "step")
    }

    pub fn position(&self, value: f64) -> f64 {
        self.axis.position(value).clamp(self.low, self.high)
    }

    /// Positions of numbers.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        let ticks = self.axis.ticks(self.low, self.high, most);
        ticks.into_iter().map(|value| self.axis.position(value)).collect()
    }

    pub fn ticked(&self, most: usize) -> Ticked {
        Ticked { low: self.low, high: self.high, ticks: self.ticks(most) }
    }

    /// What is written at a tick.
    pub fn label(&self, position: f64) -> String {
        tick(self.axis.value(position))
    }
}

/// Positions, with numbers at places of our own.
#[derive(Clone, Debug)]
pub struct Ticked {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (position - self.low) / (self.high - self.low);
        start + (f64::from(end - start) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        let scale = Scale::new(Axis::SymmetricLog { threshold: 1e-3 }, (-10.0, 10.0), "λ");
        let labels: Vec<String> = scale.ticks(9).into_iter().map(|tick| scale.label(tick)).collect();
        assert!(labels.contains(&"0".into()) && labels.contains(&"10".into()), "{labels:?}");
    }

    #[test]
    fn values_of_many_sizes_get_a_logarithmic_axis_and_odd_ones_none_that_fails() {
        assert_eq!(Scale::of(&[(1.0, 0.1), (3.0, 0.1)], false, "").axis, Axis::Linear);
        assert!(matches!(
            Scale::of(&[(500.0, 1.0), (-10.0, 1.0)], false, "").axis,
            Axis::SymmetricLog { .. }
        ));
        let nothing: &[(f64, f64)] = &[];
        for values in [nothing, &[(f64::NAN, 0.0)], &[(0.0, 0.0)], &[(1e308, 1e308)], &[(7.0, f64::INFINITY)]]
        {
            let scale = Scale::of(values, false, "");
            assert!(scale.low < scale.high && (scale.high - scale.low).is_finite(), "{values:?}: {scale:?}");
            assert!(scale.position(1.0).is_finite());
        }
    }
}
