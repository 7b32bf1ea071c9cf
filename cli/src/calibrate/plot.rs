//! The U-curves: relative error over step, one panel for each vector, one colour for each precision.

use super::record::Calibration;
use crate::image;
use hessian_probe::regimes::{DirectionKind, DirectionRecord, Regime};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

/// Pixels.
pub const SIZE: (u32, u32) = (2160, 860);
const LEGEND: u32 = 110;
const FONT: &str = "sans-serif";
/// Errors beyond are drawn here: a product that is ten times off is as useless as one that is a thousand times off.
const LARGEST_ERROR: f64 = 10.0;

type Drawn<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// An image of all curves.
pub fn png(calibration: &Calibration) -> Result<Vec<u8>, String> {
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    draw(&mut pixels, calibration).map_err(|error| format!("the plot cannot be drawn: {error}"))?;
    image::rgb(&pixels, SIZE).map_err(|error| format!("the plot cannot be encoded: {error}"))
}

fn draw(pixels: &mut [u8], calibration: &Calibration) -> Drawn<()> {
    // No font of the machine is used: there may be none.
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).map_err(|_| "its font cannot be read")?;
    let root = BitMapBackend::with_buffer(pixels, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (panels, legend) = root.split_vertically(SIZE.1 - LEGEND);
    let kinds = [DirectionKind::Random, DirectionKind::Gradient, DirectionKind::Top];
    for (area, kind) in panels.split_evenly((1, kinds.len())).iter().zip(kinds) {
        panel(area, kind, &calibration.precisions)?;
    }
    self::legend(&legend, &calibration.precisions)?;
    root.present()?;
    Ok(())
}

/// Distinguishable also without red and green (Okabe and Ito's colours).
fn colour(index: usize) -> RGBColor {
    const COLOURS: [RGBColor; 4] =
        [RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];
    COLOURS[index % COLOURS.len()]
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

fn panel(area: &Area<'_>, kind: DirectionKind, regimes: &[Regime]) -> Drawn<()> {
    let records: Vec<Option<&DirectionRecord>> = regimes
        .iter()
        .map(|regime| regime.directions.iter().find(|record| record.direction == kind))
        .collect();
    let title = match kind {
        DirectionKind::Random => "random vector",
        DirectionKind::Gradient => "gradient direction",
        DirectionKind::Top => "near the top eigenvector",
    };
    let points: Vec<(f64, f64)> = records.iter().flatten().flat_map(|record| truth(record)).collect();
    if points.is_empty() {
        area.titled(&format!("{title}: nothing to compare"), (FONT, 28))?;
        return Ok(());
    }
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)))
    };
    let steps = range(&mut points.iter().map(|point| point.0));
    let errors = range(&mut points.iter().map(|point| point.1));
    // The powers of ten around.
    let decade = |value: f64, up: bool| {
        let exponent = value.log10();
        10_f64.powf(if up { exponent.ceil() } else { exponent.floor() })
    };
    let x = decade(steps.0, false)..decade(steps.1 * 1.001, true);
    let y = decade(errors.0.max(1e-16), false)..2.0 * LARGEST_ERROR;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 30))
        .margin(14)
        .x_label_area_size(64)
        .y_label_area_size(104)
        .build_cartesian_2d(x.log_scale(), y.log_scale())?;
    chart
        .configure_mesh()
        .x_desc("step h")
        .y_desc("relative error of Hv")
        .label_style((FONT, 20))
        .axis_desc_style((FONT, 24))
        .light_line_style(RGBColor(240, 240, 240))
        .bold_line_style(RGBColor(215, 215, 215))
        .x_labels(9)
        .y_labels(9)
        .x_label_formatter(&power)
        .y_label_formatter(&power)
        .draw()?;
    for (index, record) in records.iter().enumerate().filter_map(|(index, record)| Some((index, (*record)?)))
    {
        let colour = colour(index);
        // Wider below narrower: curves may lie on each other.
        let width = 2 + 2 * (regimes.len() - index) as u32;
        chart.draw_series(LineSeries::new(truth(record), colour.stroke_width(width)))?;
        chart.draw_series(truth(record).map(|point| Circle::new(point, 4, colour.filled())))?;
        chart.draw_series(DashedLineSeries::new(predicted(record), 8, 7, colour.stroke_width(2)))?;
        let automatic = (record.automatic.step, shown(record.automatic.error));
        chart.draw_series([Circle::new(automatic, 13, colour.stroke_width(4))])?;
        let configured = (record.configured.step, shown(record.configured.error));
        chart.draw_series([Cross::new(configured, 10, colour.stroke_width(4))])?;
    }
    Ok(())
}

/// Within the axis.
fn shown(error: f64) -> f64 {
    error.clamp(1e-16, LARGEST_ERROR)
}

fn truth(record: &DirectionRecord) -> impl Iterator<Item = (f64, f64)> + Clone + '_ {
    record.rows.iter().filter_map(|row| Some((row.step, shown(row.central?.error))))
}

fn predicted(record: &DirectionRecord) -> impl Iterator<Item = (f64, f64)> + Clone + '_ {
    record.rows.iter().filter_map(|row| Some((row.step, shown(row.central?.predicted))))
}

/// 1e-3 and the like.
fn power(value: &f64) -> String {
    format!("1e{}", value.log10().round() as i32)
}

fn legend(area: &Area<'_>, regimes: &[Regime]) -> Drawn<()> {
    let style = (FONT, 24).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
    let (mut x, y) = (60, 30);
    let text = |x: &mut i32, y: i32, text: &str| -> Drawn<()> {
        area.draw(&Text::new(text.to_owned(), (*x, y), style.clone()))?;
        let (width, _) = area.estimate_text_size(text, &style)?;
        *x += width as i32;
        Ok(())
    };
    for (index, regime) in regimes.iter().enumerate() {
        let colour = colour(index);
        area.draw(&PathElement::new([(x, y), (x + 50, y)], colour.stroke_width(4)))?;
        area.draw(&Circle::new((x + 25, y), 6, colour.filled()))?;
        x += 62;
        text(&mut x, y, &regime.name)?;
        x += 50;
    }
    let (mut x, y) = (60, 76);
    area.draw(&PathElement::new([(x, y), (x + 50, y)], BLACK.stroke_width(3)))?;
    x += 62;
    text(&mut x, y, "true error of central differences")?;
    x += 50;
    for dash in 0..4 {
        area.draw(&PathElement::new([(x + 15 * dash, y), (x + 15 * dash + 8, y)], BLACK.stroke_width(2)))?;
    }
    x += 68;
    text(&mut x, y, "predicted error")?;
    x += 60;
    area.draw(&Circle::new((x, y), 13, BLACK.stroke_width(4)))?;
    x += 24;
    text(&mut x, y, "step chosen when the best is sought")?;
    x += 60;
    area.draw(&Cross::new((x, y), 10, BLACK.stroke_width(4)))?;
    x += 22;
    text(&mut x, y, "step with which a probe is content")?;
    Ok(())
}
