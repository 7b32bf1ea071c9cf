//! The figures: drawn once for a wide page, once for a narrow one, and as files.
//!
//! - `style`: colours and sizes;
//! - `scale`: axes and their numbers;
//! - `palette`: the colours of a heat map, and cells as an image;
//! - `heat_map`, `density`, `series`: what is drawn.

mod density;
mod heat_map;
mod palette;
mod scale;
mod series;
mod style;

pub use density::DensityPlot;
pub use heat_map::HeatMap;
pub use scale::{Scale, Ticked};
pub use series::{Point, Series, SeriesPlot};
pub use style::Format;

use plotters::chart::ChartContext;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use serde::Serialize;

const FONT: &str = "sans-serif";

pub type Drawn<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
pub type Chart<'a, DB> = ChartContext<'a, DB, Cartesian2d<Ticked, Ticked>>;

/// Where the plotting area is, in the figure's units, and the positions at its edges: what a pointer needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frame {
    pub x: [i32; 2],
    pub y: [i32; 2],
    pub u: [f64; 2],
    pub v: [f64; 2],
    /// Where the upward axis turns from linear to logarithmic; `None`: it is linear.
    pub threshold: Option<f64>,
}

/// Something that can be drawn on any backend.
pub trait Plot {
    /// The name of its files.
    fn name(&self) -> &'static str;

    fn title(&self) -> String;

    /// The axes: to the right, upwards.
    fn scales(&self) -> (&Scale, &Scale);

    /// Room above the area for a legend, and to the right of it for a colour bar.
    fn room(&self, _: &Format) -> (u32, u32) {
        (0, 0)
    }

    /// Below the grid.
    fn behind<DB: DrawingBackend>(&self, _: &mut Chart<'_, DB>, _: &Format) -> Drawn<()>
    where
        DB::ErrorType: 'static,
    {
        Ok(())
    }

    fn draw<DB: DrawingBackend>(&self, chart: &mut Chart<'_, DB>, format: &Format) -> Drawn<()>
    where
        DB::ErrorType: 'static;

    /// Beside the area; `top` is the height of the legend's room.
    fn beside<DB: DrawingBackend>(&self, _: &Area<'_, DB>, _: &Frame, _: &Format) -> Drawn<()>
    where
        DB::ErrorType: 'static,
    {
        Ok(())
    }

    /// Images in place of rectangles that stand for them, in an SVG.
    fn images(&self, svg: String, _: &Frame, _: &Format) -> Drawn<String> {
        Ok(svg)
    }
}

pub type Area<'a, DB> = DrawingArea<DB, plotters::coord::Shift>;

/// As an SVG document.
pub fn svg<P: Plot>(plot: &P, format: &Format) -> Drawn<(String, Frame)> {
    let mut document = String::new();
    let frame = {
        let area = SVGBackend::with_string(&mut document, format.size).into_drawing_area();
        let frame = draw(plot, &area, format)?;
        area.present()?;
        frame
    };
    Ok((plot.images(document, &frame, format)?, frame))
}

/// For the page: with its variables as colours, and no size of its own.
pub fn inline<P: Plot>(plot: &P, format: &Format) -> Drawn<(String, Frame)> {
    let (document, frame) = svg(plot, format)?;
    let (width, height) = format.size;
    let sized = format!("<svg width=\"{width}\" height=\"{height}\"");
    // A reader is told by the figure's own label.
    Ok((style::themed(&document).replacen(&sized, "<svg aria-hidden=\"true\" focusable=\"false\"", 1), frame))
}

/// As a PNG file.
pub fn png<P: Plot>(plot: &P, format: &Format) -> Drawn<Vec<u8>> {
    let format = &Format { bitmap: true, ..*format };
    let (width, height) = format.size;
    let mut pixels = vec![0; (width * height * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, format.size).into_drawing_area();
        draw(plot, &area, format)?;
        area.present()?;
    }
    Ok(crate::image::rgb(&pixels, format.size)?)
}

fn draw<P: Plot, DB: DrawingBackend>(plot: &P, area: &Area<'_, DB>, format: &Format) -> Drawn<Frame>
where
    DB::ErrorType: 'static,
{
    // No font of the machine is used to measure texts: there may be none.
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).map_err(|_| "the font cannot be read")?;
    let (above, right) = plot.room(format);
    let (x, y) = plot.scales();
    let (u, v) = (x.ticks(format.ticks.0), y.ticks(format.ticks.1));
    let text = |size: u32| (FONT, size).into_font().color(&style::INK);
    let title = plot.title();
    let mut builder = ChartBuilder::on(area);
    builder.margin(format.font / 2).margin_top(above + format.font).margin_right(right + format.font);
    if format.file {
        area.fill(&style::PAPER)?;
        builder.caption(&title, text(format.font * 5 / 4));
    }
    builder.set_label_area_size(LabelAreaPosition::Left, format.left);
    builder.set_label_area_size(LabelAreaPosition::Bottom, format.below);
    let mut chart = builder.build_cartesian_2d(x.ticked(format.ticks.0), y.ticked(format.ticks.1))?;
    plot.behind(&mut chart, format)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(style::EDGE.stroke_width(2))
        .label_style(text(format.font))
        .axis_desc_style(text(format.font))
        .x_desc(&x.name)
        .y_desc(&y.name)
        .x_label_formatter(&|position| x.label(*position))
        .y_label_formatter(&|position| y.label(*position))
        .draw()?;
    // Not by the mesh, whose lines would lie above what is behind only in part.
    let line = style::GRID.stroke_width(2);
    chart.draw_series(u.iter().map(|&u| PathElement::new([(u, y.low), (u, y.high)], line)))?;
    chart.draw_series(v.iter().map(|&v| PathElement::new([(x.low, v), (x.high, v)], line)))?;
    plot.draw(&mut chart, format)?;
    let (columns, rows) = chart.plotting_area().get_pixel_range();
    let threshold = match y.axis {
        hessian_probe::spectrum::Axis::Linear => None,
        hessian_probe::spectrum::Axis::SymmetricLog { threshold } => Some(threshold),
    };
    let frame = Frame {
        x: [columns.start, columns.end],
        y: [rows.start, rows.end],
        u: [x.low, x.high],
        v: [y.low, y.high],
        threshold,
    };
    plot.beside(area, &frame, format)?;
    Ok(frame)
}
