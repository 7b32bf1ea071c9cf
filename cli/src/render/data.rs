//! What the page's script needs: densities of the steps shown, and series.

use super::course::Course;
use super::figures::Series;
use hessian_probe::spectrum::{DensityColumn, FEWEST};
use serde::Serialize;

/// The page's data, as JSON.
#[derive(Debug, Serialize)]
pub struct PageData<'a> {
    /// Steps that can be chosen.
    steps: Vec<u64>,
    chosen: usize,
    /// Where the axis of eigenvalues turns from linear to logarithmic.
    threshold: f64,
    /// Positions of the densities: the first, the last.
    places: [f64; 2],
    fewest: f64,
    columns: Vec<Option<Column>>,
    series: Vec<Figure<'a>>,
}

#[derive(Debug, Serialize)]
struct Column {
    floor: Short,
    /// Eigenvalues for each decade, at equidistant positions.
    mean: Vec<Short>,
    /// Standard errors; none of one probe vector.
    error: Option<Vec<Short>>,
}

#[derive(Debug, Serialize)]
pub struct Figure<'a> {
    pub name: &'static str,
    pub series: &'a [Series],
}

/// A number with four digits: a pointer shows no more, and it keeps the page small.
#[derive(Clone, Copy, Debug)]
struct Short(f64);

impl Serialize for Short {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Next to nothing is nothing.
        let value = if self.0.abs() < 1e-12 { 0.0 } else { self.0 };
        let digits: f64 = format!("{value:.3e}").parse().unwrap_or(value);
        if digits == digits.trunc() && digits.abs() < 1e15 {
            serializer.serialize_i64(digits as i64)
        } else {
            serializer.serialize_f64(digits)
        }
    }
}

impl<'a> PageData<'a> {
    pub fn new(course: &Course<'_>, series: Vec<Figure<'a>>) -> Self {
        let steps = course.shown.iter().map(|snapshot| snapshot.step).collect();
        let density = course.density.as_ref();
        let threshold = match density.map(|found| found.axis) {
            Some(hessian_probe::spectrum::Axis::SymmetricLog { threshold }) => threshold,
            _ => 1.0,
        };
        let places = density.and_then(|found| Some([*found.positions.first()?, *found.positions.last()?]));
        let columns = (0..course.shown.len()).map(|index| course.column(index).map(column)).collect();
        Self {
            steps,
            chosen: course.chosen,
            threshold,
            places: places.unwrap_or([0.0, 1.0]),
            fewest: FEWEST,
            columns,
            series,
        }
    }
}

fn column(of: &DensityColumn) -> Column {
    let seen = |value: f64| Short(if value > 0.1 * FEWEST { value } else { 0.0 });
    let errors = of.per_decade.iter().map(|point| point.standard_error.map(seen)).collect();
    Column {
        floor: Short(of.floor),
        mean: of.per_decade.iter().map(|point| seen(point.mean)).collect(),
        error: errors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_stay_numbers() {
        let json = |value: f64| serde_json::to_string(&Short(value)).unwrap();
        for (value, shown) in [
            (0.0, "0"),
            (1e-30, "0"),
            (1234.567, "1235"),
            (0.012_345, "0.01235"),
            (-3.0, "-3"),
            (1e300, "1e+300"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(json(value), shown);
        }
    }
}
