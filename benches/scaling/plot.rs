//! Plots, as SVG.

use crate::Result;
use crate::report::Compared;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

const SIZE: (u32, u32) = (760, 520);
const FONT: &str = "sans-serif";
/// Okabe and Ito's: they can be told apart by everyone.
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

struct Series {
    label: String,
    color: RGBColor,
    filled: bool,
    points: Vec<(f64, f64)>,
}

/// Foretold over measured seconds, with the line on which they are equal.
pub fn foretold(points: &[Compared]) -> Result<String> {
    let series = |label: &str, held_out: bool| Series {
        label: label.into(),
        color: COLORS[usize::from(held_out)],
        filled: held_out,
        points: points
            .iter()
            .filter(|compared| compared.point.probe.held_out == held_out)
            .map(|compared| (compared.point.seconds, compared.foretold.total()))
            .collect(),
    };
    let both = [series("fitted to", false), series("held out", true)];
    draw("the time of a probe", "measured, s", "foretold, s", &both, true)
}

/// Seconds of the parts of each probe over n.
pub fn parts(points: &[Compared]) -> Result<String> {
    let names = ["gradients", "products", "lanczos", "checks", "drawing", "all_reduces"];
    let of = |name: &str, compared: &Compared| {
        let named = compared.point.parts.named();
        let seconds = named.iter().find(|(part, _)| *part == name).map_or(0.0, |(_, seconds)| *seconds);
        (compared.point.parameters as f64, seconds)
    };
    let series: Vec<Series> = names
        .iter()
        .zip(COLORS)
        .map(|(name, color)| Series {
            label: (*name).into(),
            color,
            filled: true,
            points: points
                .iter()
                .filter(|compared| !compared.point.calibrates)
                .map(|compared| of(name, compared))
                .filter(|(_, seconds)| *seconds > 0.0)
                .collect(),
        })
        .collect();
    draw("where the time of a probe goes", "parameters", "s", &series, false)
}

fn draw(title: &str, x: &str, y: &str, series: &[Series], equal: bool) -> Result<String> {
    // Widths of texts are measured with a font of our own: the machine may have none.
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).map_err(|_| "the font cannot be read")?;
    let all = || series.iter().flat_map(|series| &series.points);
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) =
            values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        0.7 * low..1.4 * high
    };
    if all().next().is_none() {
        return Err(format!("nothing to draw for {title}").into());
    }
    let (mut xs, mut ys) = (range(&mut all().map(|point| point.0)), range(&mut all().map(|point| point.1)));
    if equal {
        xs = xs.start.min(ys.start)..xs.end.max(ys.end);
        ys = xs.clone();
    }
    let mut document = String::new();
    {
        let area = SVGBackend::with_string(&mut document, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(xs.clone().log_scale(), ys.log_scale())?;
        let number = |value: &f64| format!("{value:.0e}");
        chart
            .configure_mesh()
            .x_desc(x)
            .y_desc(y)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .light_line_style(BLACK.mix(0.04))
            .bold_line_style(BLACK.mix(0.12))
            .draw()?;
        if equal {
            let ends = [(xs.start, xs.start), (xs.end, xs.end)];
            chart.draw_series(LineSeries::new(ends, BLACK.mix(0.5)))?;
        }
        for series in series {
            let style = if series.filled { series.color.filled() } else { series.color.stroke_width(2) };
            chart
                .draw_series(series.points.iter().map(|&point| Circle::new(point, 4, style)))?
                .label(&series.label)
                .legend(move |(x, y)| Circle::new((x + 8, y), 4, style));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .position(SeriesLabelPosition::LowerRight)
            .draw()?;
        area.present()?;
    }
    Ok(document)
}
