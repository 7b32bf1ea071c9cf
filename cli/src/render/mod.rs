//! `hessian-probe render`: a run as a page.
//!
//! ```text
//! run ── course (what of it is drawn) ──┬── figures ── SVG, PNG
//!                                       └── data, tables ── page: report.html
//! ```
//! The page is one file that loads nothing. Without a script it has the figures, the numbers of the chosen step and a table
//! of all; its script (`page.js`) chooses steps and tells the numbers under the pointer.

mod course;
mod data;
mod escape;
mod figures;
mod page;
mod tables;
mod thin;

use crate::arguments::RenderArguments;
use crate::failure;
use crate::report::Report;
use crate::run::Run;
use course::Course;
use figures::{DensityPlot, Format, HeatMap, Plot, SeriesPlot};
use page::Page;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub fn run(arguments: &RenderArguments) -> ExitCode {
    match render(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failure::say(&reason),
    }
}

fn render(arguments: &RenderArguments) -> Result<(), String> {
    let run = Run::read(&arguments.path)?;
    let course = Course::new(&run, arguments.step)
        .map_err(|reason| format!("{}: {reason}", arguments.path.display()))?;
    let directory = arguments.out.clone().unwrap_or_else(|| beside(&arguments.path));
    let report = Report::at(&directory.join("report.html"))?;
    for line in course.left_out.iter().chain(&run.unreadable) {
        eprintln!("note: {line}");
    }
    let mut output =
        Output { figures: (!arguments.no_figures).then(|| directory.join("figures")), written: 0 };
    let mut page = Page::new(&course, &arguments.path);
    // Density and heat map are of the same spectra, if any of the snapshots has nodes.
    if let Some(density) = &course.density {
        let maps = if density.columns.len() > 1 { HeatMap::new(density, &course.operator) } else { None };
        if let Some(plot) = maps {
            page.heat_map(output.figure(&plot)?);
        }
        if let Some(plot) =
            course.density_index().and_then(|index| DensityPlot::new(density, index, &course.operator))
        {
            page.density(output.figure(&plot)?);
        }
    }
    let of = &course.operator;
    let plots = [
        (
            "extremes",
            format!("Largest and smallest eigenvalue of {of} over steps"),
            course.unit,
            None,
            course.extremes(),
        ),
        ("trace", format!("Trace of {of} over steps"), course.unit, None, course.trace()),
        ("stability", "Stability: above 1 is unstable".into(), "ratio", Some(1.0), course.stability()),
    ];
    for (name, title, unit, line, series) in plots {
        if let Some(plot) = SeriesPlot::new(name, title, unit, line, series) {
            let drawn = output.figure(&plot)?;
            page.series(drawn, plot.series);
        }
    }
    report.write_bytes(page.html()?.as_bytes())?;
    println!("page             {}", report.path().display());
    if let Some(figures) = &output.figures {
        println!("figures          {}: {} files", figures.display(), output.written);
    }
    Ok(())
}

/// `report` beside a file, or in the directory of a log.
fn beside(path: &Path) -> PathBuf {
    let directory = if path.is_dir() { Some(path) } else { path.parent() };
    directory.unwrap_or(Path::new("")).join("report")
}

/// A figure for the page: wide and narrow, each with the place of its area.
pub struct Inline {
    pub name: &'static str,
    pub title: String,
    pub wide: (String, figures::Frame),
    pub narrow: (String, figures::Frame),
}

struct Output {
    figures: Option<PathBuf>,
    written: usize,
}

impl Output {
    /// Draws a figure for the page, and into files.
    fn figure(&mut self, plot: &impl Plot) -> Result<Inline, String> {
        let name = plot.name();
        let failed = |error| format!("the figure {name} cannot be drawn: {error}");
        if let Some(directory) = &self.figures {
            let (svg, _) = figures::svg(plot, &Format::FILE).map_err(failed)?;
            let png = figures::png(plot, &Format::FILE).map_err(failed)?;
            for (extension, bytes) in [("svg", svg.as_bytes()), ("png", &png)] {
                Report::at(&directory.join(name).with_extension(extension))?.write_bytes(bytes)?;
                self.written += 1;
            }
        }
        Ok(Inline {
            name,
            title: plot.title(),
            wide: figures::inline(plot, &Format::WIDE).map_err(failed)?,
            narrow: figures::inline(plot, &Format::NARROW).map_err(failed)?,
        })
    }
}
