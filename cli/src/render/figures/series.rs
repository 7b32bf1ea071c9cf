//! Numbers with errors over steps.

use super::scale::Scale;
use super::style::{EDGE, Format, INK, SERIES};
use super::{Area, Chart, Drawn, FONT, Frame, Plot};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

/// A value at a step, with its error where one is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point(pub u64, pub f64, pub Option<f64>);

/// Values that belong together.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    pub name: &'static str,
    /// What its error is.
    pub error: &'static str,
    /// Many small points in place of few large ones.
    pub dense: bool,
    /// As many as are drawn; of more, the smallest and the largest of each stretch.
    pub points: Vec<Point>,
    /// How many there are.
    #[serde(skip)]
    pub count: usize,
}

pub struct SeriesPlot {
    name: &'static str,
    title: String,
    pub series: Vec<Series>,
    /// A value that means something, across the figure.
    line: Option<f64>,
    x: Scale,
    y: Scale,
}

impl SeriesPlot {
    /// `None` where there is nothing to draw.
    pub fn new(
        name: &'static str,
        title: String,
        unit: &str,
        line: Option<f64>,
        mut series: Vec<Series>,
    ) -> Option<Self> {
        for series in &mut series {
            let before = series.points.len();
            series.points.retain(|point| point.1.is_finite());
            series.count -= before - series.points.len();
        }
        series.retain(|series| !series.points.is_empty());
        let points = || series.iter().flat_map(|series| &series.points);
        let first = points().map(|point| point.0).min()? as f64;
        let last = points().map(|point| point.0).max()? as f64;
        let values: Vec<(f64, f64)> = points()
            .map(|point| (point.1, point.2.unwrap_or(0.0)))
            .chain(line.map(|line| (line, 0.0)))
            .collect();
        let y = Scale::of(&values, false, unit);
        Some(Self { name, title, line, x: Scale::steps(first, last), y, series })
    }
}

impl Plot for SeriesPlot {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    fn scales(&self) -> (&Scale, &Scale) {
        (&self.x, &self.y)
    }

    fn room(&self, format: &Format) -> (u32, u32) {
        if self.series.len() > 1 { (format.font * 3 / 2, 0) } else { (0, 0) }
    }

    fn draw<DB: DrawingBackend>(&self, chart: &mut Chart<'_, DB>, _: &Format) -> Drawn<()>
    where
        DB::ErrorType: 'static,
    {
        let across = self.line.map(|line| self.y.position(line));
        let across: Vec<(f64, f64)> =
            across.iter().flat_map(|&v| [(self.x.low, v), (self.x.high, v)]).collect();
        chart.draw_series(DashedLineSeries::new(across, 12, 10, EDGE.stroke_width(3)))?;
        // Dense ones below.
        let mut ordered: Vec<(usize, &Series)> = self.series.iter().enumerate().collect();
        ordered.sort_by_key(|(_, series)| !series.dense);
        for (index, series) in ordered {
            let color = SERIES[index % SERIES.len()];
            let (width, radius) = if series.dense { (2, 3) } else { (4, 7) };
            let at = |point: &Point| (point.0 as f64, self.y.position(point.1));
            chart.draw_series(LineSeries::new(series.points.iter().map(at), color.stroke_width(width)))?;
            let bars = series.points.iter().filter_map(|point| {
                let error = point.2.filter(|error| error.is_finite())?;
                let ends =
                    [point.1 - error, point.1 + error].map(|end| (point.0 as f64, self.y.position(end)));
                Some(PathElement::new(ends, color.stroke_width(width)))
            });
            chart.draw_series(bars)?;
            chart.draw_series(
                series.points.iter().map(|point| Circle::new(at(point), radius, color.filled())),
            )?;
        }
        Ok(())
    }

    fn beside<DB: DrawingBackend>(&self, area: &Area<'_, DB>, frame: &Frame, format: &Format) -> Drawn<()>
    where
        DB::ErrorType: 'static,
    {
        if self.series.len() < 2 {
            return Ok(());
        }
        let font = format.font as i32;
        let style = (FONT, format.font).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        // A file has its title between.
        let (mut x, y) = (frame.x[0], if format.file { font } else { frame.y[0] - font });
        for (index, series) in self.series.iter().enumerate() {
            area.draw(&Circle::new((x + font / 3, y), 8, SERIES[index % SERIES.len()].filled()))?;
            area.draw(&Text::new(series.name, (x + font, y), style.clone()))?;
            let (width, _) = area.estimate_text_size(series.name, &style)?;
            x += width as i32 + 2 * font;
        }
        Ok(())
    }
}
