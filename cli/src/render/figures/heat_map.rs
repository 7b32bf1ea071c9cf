//! The density over steps, as colours.

use super::palette::Paper;
use super::scale::Scale;
use super::style::{BAR, CELLS, FLOOR, Format, INK, hex};
use super::{Area, Chart, Drawn, FONT, Frame, Plot};
use crate::number::tick;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hessian_probe::spectrum::{Axis, DensityColumn, DensityOverSteps, FEWEST};
use plotters::element::BitMapElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub struct HeatMap<'a> {
    found: &'a DensityOverSteps,
    top: f64,
    x: Scale,
    y: Scale,
    operator: &'a str,
}

impl<'a> HeatMap<'a> {
    pub fn new(found: &'a DensityOverSteps, operator: &'a str) -> Option<Self> {
        let (first, last) = (found.columns.first()?.step as f64, found.columns.last()?.step as f64);
        let reach = (*found.positions.first()?, *found.positions.last()?);
        let x = Scale::new(Axis::Linear, (first, last), "step");
        let y = Scale::new(found.axis, reach, format!("eigenvalue λ of {operator}"));
        Some(Self { found, top: found.top(), x, y, operator })
    }

    /// Levels of an image of this size, row by row from the top. A step reaches half-way to its neighbours.
    fn levels(&self, (width, height): (u32, u32)) -> Vec<f64> {
        let found = self.found;
        let along = |low: f64, high: f64, pixel: u32, of: u32| {
            low + (f64::from(pixel) + 0.5) / f64::from(of) * (high - low)
        };
        let steps = (0..width).map(|pixel| along(self.x.low, self.x.high, pixel, width));
        let columns: Vec<_> = steps.map(|step| &found.columns[found.column_at(step)]).collect();
        let mut levels = Vec::with_capacity((width * height) as usize);
        for pixel in 0..height {
            let place = found.place_at(along(self.y.high, self.y.low, pixel, height));
            let level =
                |column: &&DensityColumn| DensityOverSteps::level(self.top, column.per_decade[place].mean);
            levels.extend(columns.iter().map(level));
        }
        levels
    }

    /// What the noise hides ends here: a level line for each step, as far as its colours.
    fn floor(&self, sign: f64) -> impl Iterator<Item = [(f64, f64); 2]> {
        let columns = &self.found.columns;
        let step = |index: usize| columns[index].step as f64;
        (0..columns.len()).filter_map(move |index| {
            let place = self.y.axis.position(sign * columns[index].floor);
            let start = if index > 0 { 0.5 * (step(index - 1) + step(index)) } else { self.x.low };
            let end =
                if index + 1 < columns.len() { 0.5 * (step(index) + step(index + 1)) } else { self.x.high };
            let seen = columns[index].floor > 0.0 && (self.y.low..=self.y.high).contains(&place);
            seen.then_some([(start, place), (end, place)])
        })
    }

    /// The colour bar: left, right, top, bottom.
    fn bar(frame: &Frame, format: &Format) -> [i32; 4] {
        let left = frame.x[1] + format.font as i32;
        [left, left + format.font as i32, frame.y[0], frame.y[1]]
    }
}

/// Of the colour bar, from its top.
fn bar_levels(height: u32) -> Vec<f64> {
    (0..height).map(|row| 1.0 - (f64::from(row) + 0.5) / f64::from(height)).collect()
}

impl Plot for HeatMap<'_> {
    fn name(&self) -> &'static str {
        "heat_map"
    }

    fn title(&self) -> String {
        format!("Spectral density of {} over steps: eigenvalues per decade of |λ|", self.operator)
    }

    fn scales(&self) -> (&Scale, &Scale) {
        (&self.x, &self.y)
    }

    fn room(&self, format: &Format) -> (u32, u32) {
        (0, format.font * 5)
    }

    fn draw<DB: DrawingBackend>(&self, chart: &mut Chart<'_, DB>, format: &Format) -> Drawn<()>
    where
        DB::ErrorType: 'static,
    {
        let area = [(self.x.low, self.y.high), (self.x.high, self.y.low)];
        // In an SVG, images take the place of this; a bitmap has its pixels drawn.
        chart.draw_series([Rectangle::new(area, CELLS.filled())])?;
        if format.bitmap {
            let (columns, rows) = chart.plotting_area().get_pixel_range();
            let size = ((columns.end - columns.start) as u32, (rows.end - rows.start) as u32);
            let levels = self.levels(size);
            let color = |level: &f64| if *level > 0.0 { Paper::Light.color(*level) } else { [255; 3] };
            let pixels: Vec<u8> = levels.iter().flat_map(color).collect();
            let cells = BitMapElement::with_owned_buffer((self.x.low, self.y.high), size, pixels);
            chart.draw_series(cells)?;
        }
        for sign in [-1.0, 1.0] {
            for points in self.floor(sign) {
                chart.draw_series(DashedLineSeries::new(points, 6, 6, FLOOR.stroke_width(2)))?;
            }
        }
        Ok(())
    }

    fn beside<DB: DrawingBackend>(&self, area: &Area<'_, DB>, frame: &Frame, format: &Format) -> Drawn<()>
    where
        DB::ErrorType: 'static,
    {
        let [left, right, top, bottom] = Self::bar(frame, format);
        area.draw(&Rectangle::new([(left, top), (right, bottom)], BAR.filled()))?;
        if format.bitmap {
            for (row, level) in bar_levels((bottom - top) as u32).into_iter().enumerate() {
                let [red, green, blue] = Paper::Light.color(level);
                let y = top + row as i32;
                let line = RGBColor(red, green, blue).stroke_width(1);
                area.draw(&PathElement::new([(left, y), (right, y)], line))?;
            }
        }
        let text = (FONT, format.font).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        let bottom_level = FEWEST.log10();
        let stride = ((self.top - bottom_level) / 7.0).ceil().max(1.0);
        let mut decade = bottom_level;
        while decade <= self.top + 1e-9 {
            let share = (decade - bottom_level) / (self.top - bottom_level);
            let y = bottom - (share * f64::from(bottom - top)).round() as i32;
            let label = tick(10_f64.powf(decade));
            area.draw(&Text::new(label, (right + format.font as i32 / 3, y), text.clone()))?;
            decade += stride;
        }
        Ok(())
    }

    fn images(&self, svg: String, frame: &Frame, format: &Format) -> Drawn<String> {
        // Half the resolution of the units: one pixel of the page.
        let size = |[start, end]: [i32; 2]| ((end - start) / 2).max(1) as u32;
        let cells = (size(frame.x), size(frame.y));
        let [left, right, top, bottom] = Self::bar(frame, format);
        let bar = (1, size([top, bottom]));
        let papers: &[(Paper, &str)] = if format.file {
            &[(Paper::Light, "")]
        } else {
            &[(Paper::Light, " class=\"light\""), (Paper::Dark, " class=\"dark\"")]
        };
        let (levels, bar_levels) = (self.levels(cells), bar_levels(bar.1));
        let image = |levels: &[f64], size, [x0, x1, y0, y1]: [i32; 4]| -> Drawn<String> {
            let mut all = String::new();
            for (paper, class) in papers {
                let data = STANDARD.encode(paper.png(levels, size)?);
                all += &format!(
                    "<image{class} x=\"{x0}\" y=\"{y0}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
                     style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>",
                    x1 - x0,
                    y1 - y0
                );
            }
            Ok(all)
        };
        let svg =
            replace(svg, CELLS, &image(&levels, cells, [frame.x[0], frame.x[1], frame.y[0], frame.y[1]])?)?;
        replace(svg, BAR, &image(&bar_levels, bar, [left, right, top, bottom])?)
    }
}

/// Puts something in the place of the rectangle of a colour.
fn replace(mut svg: String, color: RGBColor, by: &str) -> Drawn<String> {
    let place = svg.find(&format!("fill=\"{}\"", hex(color)));
    let ends = place.and_then(|place| Some((svg[..place].rfind('<')?, place + svg[place..].find("/>")? + 2)));
    let (start, end) = ends.ok_or("the figure has no room for its image")?;
    svg.replace_range(start..end, by);
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hessian_probe::spectrum::Estimate;

    #[test]
    fn a_pixel_shows_the_step_and_the_place_that_are_nearest() {
        let column = |index: usize, step, means: [f64; 5]| DensityColumn {
            index,
            step,
            floor: 0.0,
            per_decade: means.map(|mean| Estimate { mean, standard_error: None }).to_vec(),
        };
        let rising = [1.0, 10.0, 100.0, 1e3, 1e4];
        let positions = vec![0.0, 1.0, 2.0, 3.0, 4.0];
        let found = DensityOverSteps {
            axis: Axis::Linear,
            values: positions.clone(),
            positions,
            columns: vec![column(0, 0, rising), column(1, 10, [0.0; 5])],
        };
        let map = HeatMap::new(&found, "H").unwrap();
        let levels = map.levels((4, 8));
        let places = [4, 3, 3, 2, 2, 1, 1, 0];
        for (row, place) in levels.chunks(4).zip(places) {
            let level = DensityOverSteps::level(found.top(), rising[place]);
            assert_eq!(row, [level, level, 0.0, 0.0], "place {place}");
        }
    }
}
