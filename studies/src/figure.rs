//! Figures as SVG: points with error bars, joined by lines where their order means something; or lines alone.

use crate::Result;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// What belongs together.
pub struct Series {
    pub label: String,
    /// x, y, and the standard error of y.
    pub points: Vec<(f64, f64, Option<f64>)>,
    /// A point beside them that stands out.
    pub mark: Option<(f64, f64)>,
}

/// What an axis shows of its numbers.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Scale {
    #[default]
    Linear,
    /// They are common logarithms of what is shown.
    Powers,
}

/// How a series is drawn where x is a quantity.
#[derive(Clone, Copy, Default, PartialEq)]
pub enum Marks {
    /// Points, and a line through them.
    #[default]
    Joined,
    /// Points are so many that the line through them is enough.
    Lines,
    /// Their order means nothing.
    Scattered,
}

/// The axes of a figure.
#[derive(Clone, Default)]
pub struct Axes {
    pub title: String,
    pub x: String,
    pub y: String,
    /// Names at x = 0, 1, …, where x is no quantity.
    pub names: Vec<String>,
    pub y_range: (f64, f64),
    pub x_scale: Scale,
    pub y_scale: Scale,
    pub marks: Marks,
}

const SIZE: (u32, u32) = (760, 400);
/// Okabe and Ito's: they can be told apart by everyone.
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// The figure as an SVG document.
///
/// # Errors
/// The renderer's.
pub fn svg(axes: &Axes, series: &[Series]) -> Result<String> {
    // Widths of texts are measured with a font of our own: the machine may have none.
    register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the font cannot be read")?;
    let mut document = String::new();
    {
        let area = SVGBackend::with_string(&mut document, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (low, high) = x_range(axes, series);
        let mut chart = ChartBuilder::on(&area);
        let chart = chart.caption(&axes.title, ("sans-serif", 18)).margin(12);
        let mut chart = chart
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(low..high, axes.y_range.0..axes.y_range.1)?;
        let name = |x: &f64| match axes.names.get(x.round().max(0.0) as usize) {
            Some(name) if (x - x.round()).abs() < 1e-6 && *x > -0.5 => name.clone(),
            _ => String::new(),
        };
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&axes.x)
            .y_desc(&axes.y)
            .light_line_style(BLACK.mix(0.04))
            .bold_line_style(BLACK.mix(0.12));
        let power = |x: &f64| if (x - x.round()).abs() < 1e-6 { format!("1e{x:.0}") } else { String::new() };
        if axes.x_scale == Scale::Powers {
            mesh.x_label_formatter(&power);
        }
        if axes.y_scale == Scale::Powers {
            mesh.y_label_formatter(&power);
        }
        if !axes.names.is_empty() {
            mesh.x_label_formatter(&name).x_labels(2 * axes.names.len() + 1);
        }
        mesh.draw()?;
        for (number, (series, color)) in series.iter().zip(COLORS).enumerate() {
            // Side by side where they share an x.
            let shift = if axes.names.is_empty() { 0.0 } else { 0.12 * number as f64 - 0.06 };
            let at = |&(x, y, _): &(f64, f64, Option<f64>)| (x + shift, y);
            if axes.names.is_empty() && axes.marks != Marks::Scattered {
                chart.draw_series(LineSeries::new(series.points.iter().map(at), color.stroke_width(2)))?;
            }
            let shown = if axes.marks == Marks::Lines { &[] } else { &series.points[..] };
            let points =
                chart.draw_series(shown.iter().map(|point| Circle::new(at(point), 4, color.filled())))?;
            points.label(&series.label).legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
            let mark =
                series.mark.iter().map(|&(x, y)| Circle::new((x + shift, y), 8, color.stroke_width(2)));
            chart.draw_series(mark)?;
            let bars = series.points.iter().filter_map(|&(x, y, error)| Some((x + shift, y, error?)));
            chart.draw_series(bars.map(|(x, y, error)| {
                ErrorBar::new_vertical(x, y - error, y, y + error, color.filled(), 8)
            }))?;
        }
        let mut labels = chart.configure_series_labels();
        labels
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .position(SeriesLabelPosition::LowerRight);
        labels.draw()?;
        area.present()?;
    }
    Ok(document)
}

fn x_range(axes: &Axes, series: &[Series]) -> (f64, f64) {
    if !axes.names.is_empty() {
        return (-0.5, axes.names.len() as f64 - 0.5);
    }
    let points = || series.iter().flat_map(|series| &series.points).map(|point| point.0);
    let all = || points().chain(series.iter().filter_map(|series| Some(series.mark?.0)));
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let margin = 0.03 * (high - low);
    (low - margin, high + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_bar_and_name_is_drawn() {
        let axes = Axes {
            title: "Title".into(),
            x: "text".into(),
            y: "error".into(),
            names: vec!["one".into(), "two".into()],
            y_range: (0.0, 1.0),
            ..Axes::default()
        };
        let series =
            |label: &str, points: &[_], mark| Series { label: label.into(), points: points.to_vec(), mark };
        let (first, second) = ((0.0, 0.5, Some(0.1)), (1.0, 0.6, None));
        let all = [series("a", &[first, second], None), series("b", &[(0.0, 0.2, None)], Some((1.0, 0.3)))];
        let document = svg(&axes, &all).unwrap();
        for text in ["Title", "text", "error", "one", "two"] {
            assert!(document.contains(text), "{text}");
        }
        let circles = |series: &[Series]| svg(&axes, series).unwrap().matches("<circle").count();
        let fewer = [series("a", &[first], None), series("b", &[], None)];
        assert_eq!(circles(&all), circles(&fewer) + 3);
        let empty = Axes { names: Vec::new(), ..axes };
        assert!(svg(&empty, &all).unwrap().contains("<polyline"));
        let lines = svg(&Axes { marks: Marks::Lines, ..empty.clone() }, &all).unwrap();
        let dots = svg(&empty, &all).unwrap().matches("<circle").count();
        assert!(lines.contains("<polyline"));
        assert_eq!(lines.matches("<circle").count() + 3, dots, "marks and legend are");
        let scattered = svg(&Axes { marks: Marks::Scattered, ..empty.clone() }, &all).unwrap();
        let lines = |document: &str| document.matches("<polyline").count();
        assert!(lines(&scattered) < lines(&svg(&empty, &all).unwrap()));
        let powers = Axes { x_scale: Scale::Powers, y_scale: Scale::Powers, y_range: (-2.0, 1.0), ..empty };
        let document = svg(&powers, &all).unwrap();
        for text in ["1e-2", "1e-1", "1e0"] {
            assert!(document.contains(text), "{text}");
        }
    }
}
