//! The page, put together.

use super::Inline;
use super::course::{Course, MOST_SNAPSHOTS};
use super::data::{Figure, PageData};
use super::escape::{Html, fill, script};
use super::figures::Series;
use super::tables;
use hessian_probe::log::JSONL_FILE;
use std::fmt::Write;
use std::path::Path;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Lines of a list at most.
const MOST_EVENTS: usize = 100;
/// Rows of the table of all steps at most.
const MOST_ROWS: usize = 1000;

pub struct Page<'a> {
    course: &'a Course<'a>,
    name: String,
    figures: String,
    series: Vec<(&'static str, Vec<Series>)>,
}

impl<'a> Page<'a> {
    pub fn new(course: &'a Course<'a>, path: &Path) -> Self {
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        // A log is named by its directory.
        let log = whole.parent().filter(|_| whole.file_name().is_some_and(|name| name == JSONL_FILE));
        let named = log.unwrap_or(&whole).file_name().map(|name| name.to_string_lossy().into_owned());
        let name = named.unwrap_or_else(|| path.display().to_string());
        Self { course, name, figures: String::new(), series: Vec::new() }
    }

    pub fn heat_map(&mut self, drawn: Inline) {
        let note = "Arrow keys move the cursor and choose the step; a click chooses it, too. Dashed: between them the noise \
                    hides eigenvalues.";
        self.figure(&drawn, note);
    }

    pub fn density(&mut self, drawn: Inline) {
        let note = "The band is one standard error over probe vectors; shaded: eigenvalues that the noise hides. The axes \
                    are the same at all steps.";
        self.figure(&drawn, note);
    }

    pub fn series(&mut self, drawn: Inline, series: Vec<Series>) {
        let known = |series: &&Series| series.points.iter().any(|point| point.2.is_some());
        let mut errors: Vec<&str> = series.iter().filter(known).map(|series| series.error).collect();
        errors.dedup();
        let mut note = match &errors[..] {
            [] => "No errors are known: of one probe vector there is no standard error.".into(),
            errors => format!("Bars: the {}.", errors.join(", or the ")),
        };
        for thinned in series.iter().filter(|series| series.points.len() < series.count) {
            let Series { name, points, count, .. } = thinned;
            let _ = write!(
                note,
                " Of {name}, {} of {count} points are drawn: the smallest and the largest of each stretch.",
                points.len()
            );
        }
        self.figure(&drawn, &note);
        self.series.push((drawn.name, series));
    }

    fn figure(&mut self, drawn: &Inline, note: &str) {
        let Inline { name, title, wide, narrow } = drawn;
        // That of the density names the step.
        let step = self.course.shown[self.course.chosen].step.to_string();
        let title = match title.strip_suffix(&step) {
            Some(head) if *name == "density" => format!("{}<span class=\"which\">{step}</span>", Html(head)),
            _ => Html(title).to_string(),
        };
        let plain = Html(&drawn.title);
        let mut drawings = String::new();
        for (width, (svg, frame)) in [("wide", wide), ("narrow", narrow)] {
            let frame = serde_json::to_string(frame).unwrap_or_default();
            let _ =
                write!(drawings, "<div class=\"drawing {width}\" data-frame=\"{}\">{svg}</div>", Html(frame));
        }
        let _ = write!(
            self.figures,
            "<figure id=\"figure-{name}\"><figcaption><strong>{title}</strong><br>{}</figcaption>\
             <div class=\"plot\" tabindex=\"0\" role=\"group\" aria-label=\"{plain}\">{drawings}\
             <div class=\"tip\" role=\"status\"></div></div></figure>",
            Html(note)
        );
    }

    /// The whole page.
    pub fn html(&self) -> Result<String, String> {
        let course = self.course;
        let chosen = course.shown[course.chosen];
        let series = self.series.iter().map(|(name, series)| Figure { name, series }).collect();
        let data =
            serde_json::to_string(&PageData::new(course, series)).map_err(|error| error.to_string())?;
        let title = format!("Hessian spectrum: {}", self.name);
        let values: [(&str, &str); 16] = [
            ("title", &Html(title).to_string()),
            ("style", STYLE),
            ("lead", &Html(self.lead()).to_string()),
            ("notes", &self.notes()),
            ("last", &(course.shown.len() - 1).to_string()),
            ("chosen", &course.chosen.to_string()),
            ("step", &chosen.step.to_string()),
            ("figures", &self.figures),
            ("details", &self.details()),
            ("events", &tables::events(course.run(), MOST_EVENTS)),
            ("course", &self.table()),
            ("total", &Html(tables::total(&course.all, course.run())).to_string()),
            ("configuration", &self.configuration()),
            ("version", env!("CARGO_PKG_VERSION")),
            ("data", &script(&data)),
            ("script", SCRIPT),
        ];
        Ok(fill(TEMPLATE, &values))
    }

    fn lead(&self) -> String {
        let all = &self.course.all;
        let chosen = self.course.shown[self.course.chosen];
        let steps = match (all.first(), all.last()) {
            (Some(first), Some(last)) if first.step != last.step => {
                format!("steps {} to {}", first.step, last.step)
            }
            _ => format!("step {}", chosen.step),
        };
        format!(
            "{} parameters on {} rank(s), {steps}, {} snapshot(s) of {}, {} probe vector(s)",
            chosen.parameters,
            chosen.world_size,
            all.len(),
            self.course.operator,
            chosen.probes.len()
        )
    }

    fn notes(&self) -> String {
        let mut notes = String::new();
        let run = self.course.run();
        for line in &self.course.left_out {
            let _ = write!(notes, "<p class=\"note\">{}</p>", Html(line));
        }
        if let Some(first) = run.unreadable.first() {
            let count = run.unreadable.len();
            let _ = write!(
                notes,
                "<p class=\"warning\">{count} line(s) of the log could not be read, the first: {}</p>",
                Html(first)
            );
        }
        let warned = self.course.all.iter().filter(|snapshot| !snapshot.warnings.is_empty()).count();
        if warned > 0 {
            let _ = write!(
                notes,
                "<p class=\"warning\">{warned} of {} snapshots have warnings; they are told with the step.</p>",
                self.course.all.len()
            );
        }
        if !run.skipped.is_empty() {
            let _ = write!(
                notes,
                "<p class=\"note\">{} probe(s) were skipped: see below.</p>",
                run.skipped.len()
            );
        }
        if self.course.density.is_none() {
            notes.push_str("<p class=\"note\">No snapshot has nodes: there is no density to draw.</p>");
        }
        notes
    }

    /// One section for each step; that which is shown first is seen also without a script.
    fn details(&self) -> String {
        let mut all = String::new();
        for (index, snapshot) in self.course.shown.iter().enumerate() {
            let hidden = if index == self.course.chosen { "" } else { " hidden" };
            let _ = write!(
                all,
                "<section class=\"step\" data-index=\"{index}\" aria-labelledby=\"numbers\"{hidden}>{}</section>",
                tables::details(snapshot, self.course.unit)
            );
        }
        all
    }

    fn table(&self) -> String {
        let all = &self.course.all;
        let kept = super::thin::evenly(all.len(), MOST_ROWS);
        let caption = if kept.len() < all.len() {
            format!("{} of {} snapshots, evenly chosen", kept.len(), all.len())
        } else {
            "All snapshots".into()
        };
        let rows: Vec<_> = kept.into_iter().map(|index| all[index]).collect();
        let table = tables::course(&rows, &caption);
        let open = if rows.len() <= MOST_SNAPSHOTS { " open" } else { "" };
        format!("<details class=\"course\"{open}><summary>{}</summary>{table}</details>", Html(caption))
    }

    fn configuration(&self) -> String {
        let sessions = &self.course.run().sessions;
        if sessions.is_empty() {
            return "<p>This file tells none: it is a report, or a log without the record of its session.</p>".into();
        }
        let count = sessions.len();
        let mut all = String::new();
        for (index, session) in sessions.iter().enumerate() {
            // Of a run that was resumed, the last configuration holds.
            let open = if index + 1 == count { " open" } else { "" };
            let _ = write!(
                all,
                "<details{open}><summary>from step {} on {} rank(s)</summary><pre tabindex=\"0\">{}</pre></details>",
                session.start_step,
                session.world_size,
                Html(session.config.trim_end())
            );
        }
        all
    }
}
