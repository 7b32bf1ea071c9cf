//! From records to events in a file.

use super::cheap_scalars;
use super::event::{Data, Event, Value};
use super::histogram::{Histogram, SymlogAxis};
use super::layout;
use super::plot::History;
use super::record::frame;
use super::scalars::{self, Scalar, scalars};
use crate::config::ProbeConfig;
use crate::log::append_file::AppendFile;
use crate::log::record::{Record, Session, Skipped};
use crate::log::reopen::{self, Reopen};
use crate::log::sink::Sink;
use crate::sharpness::CriticalSharpness;
use crate::spectrum::Snapshot;
use crate::tracking::Tracked;
use crate::triggers::Triggered;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const PREFIX: &str = "events.out.tfevents.";

/// Writes records to a TensorBoard event file of its own: see the [module](super) for the tags.
#[derive(Debug)]
pub struct TensorBoardSink {
    file: AppendFile,
    state: State,
    /// The session that this process opened: it is written again where the file was deleted.
    session: Option<Record>,
}

/// What later events depend on; replaced only once the events of a record are in the file.
#[derive(Clone, Debug, Default)]
struct State {
    described: HashSet<String>,
    axis: Option<SymlogAxis>,
    /// Where images are asked for.
    history: Option<History>,
}

impl TensorBoardSink {
    /// Makes a new event file in a directory. `axis` is that of the histograms; by default it is
    /// [`SymlogAxis::of_snapshot`] of the first snapshot written.
    ///
    /// # Errors
    /// When the file cannot be made or written to.
    pub fn create(dir: &Path, axis: Option<SymlogAxis>) -> io::Result<Self> {
        let mut file = create_file(dir)?;
        let mut out = Vec::new();
        frame(&Event::FileVersion.encode(now(), 0), &mut out);
        file.append(&out)?;
        Ok(Self { file, state: State { axis, ..State::default() }, session: None })
    }

    /// Also draws densities and heat maps.
    #[must_use]
    pub fn with_plots(mut self) -> Self {
        self.state.history = Some(History::default());
        self
    }
}

impl Reopen for TensorBoardSink {
    fn file(&self) -> &AppendFile {
        &self.file
    }

    fn begin_again(&self, dir: &Path) -> io::Result<Self> {
        let mut sink = Self::create(dir, self.state.axis)?;
        sink.state.history = self.state.history.clone();
        Ok(sink)
    }

    fn session(&mut self) -> &mut Option<Record> {
        &mut self.session
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut state = self.state.clone();
        let (wall_time, step, events) = match record {
            Record::Session(session) => {
                let dir = self.file.path().parent().unwrap_or(Path::new("."));
                state.history.iter_mut().for_each(|history| history.begin(dir, session.start_step));
                (now(), session.start_step, state.session(session))
            }
            Record::Snapshot(snapshot) => (snapshot.unix_time, snapshot.step, state.snapshot(snapshot)?),
            Record::Tracked(tracked) => (tracked.unix_time, tracked.step, state.tracked(tracked)),
            Record::Sharpness(found) => (found.unix_time, found.step, state.sharpness(found)),
            Record::Triggered(triggered) => (triggered.unix_time, triggered.step, state.triggered(triggered)),
            Record::Skipped(skipped) => (now(), skipped.step, state.skipped(skipped)),
        };
        let mut out = Vec::new();
        for event in events {
            frame(&event.encode(wall_time, step), &mut out);
        }
        self.file.append(&out)?;
        self.state = state;
        Ok(())
    }
}

impl Sink for TensorBoardSink {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        reopen::write(self, record)
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some((step, wall_time, event)) = self.state.last_heat_map()? {
            let mut out = Vec::new();
            frame(&event.encode(wall_time, step), &mut out);
            self.file.append(&out)?;
        }
        self.file.sync()
    }
}

impl State {
    fn session(&mut self, session: &Session) -> Vec<Event> {
        let Session { start_step, world_size, parameters, config } = session;
        let fence = fence(config);
        let read = ProbeConfig::from_toml_str(config).unwrap_or_default();
        let (blocks, optimizer) = (read.blocks.is_on(), !read.slq.operator.is_hessian());
        let text = format!(
            "{parameters} parameters on {world_size} ranks, from step {start_step}\n\n{fence}toml\n{}\n{fence}\n",
            config.trim_end()
        );
        let config = self.value("probe/config", "The configuration of hessian-probe.", Data::Text(text));
        let layout = self.value(layout::TAG, "", Data::Layout(layout::layout(blocks, optimizer)));
        vec![Event::SessionStart, Event::Summary(vec![config, layout])]
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> io::Result<Vec<Event>> {
        let mut values: Vec<Value> = scalars(snapshot)
            .into_iter()
            .map(|scalar| self.value(&scalar.tag, &scalar.description, Data::Scalar(scalar.value as f32)))
            .collect();
        self.axis = self.axis.or_else(|| SymlogAxis::of_snapshot(snapshot));
        // Where H = 0 all mass is at zero, on whichever axis; the next snapshot may still choose it.
        let axis = self.axis.unwrap_or_default();
        let (of, name) = operator(!snapshot.operator.includes_hessian());
        if let Some(density) = Histogram::density(snapshot, axis) {
            let describe = |what| {
                format!(
                    "{what} eigenvalues λ of {of} in each tenth of a decade, \
                     at x = sign(λ) · log₁₀(1 + |λ|/λ₀) with λ₀ = {:e}.",
                    axis.threshold()
                )
            };
            let tall = describe("log₁₀(1 + 100 × number) of");
            let tall =
                self.value(&format!("{name}/log_density"), &tall, Data::Histogram(density.logarithmic()));
            let density =
                self.value(&format!("{name}/density"), &describe("The number of"), Data::Histogram(density));
            values.extend([density, tall]);
        }
        if let Some(history) = &mut self.history {
            history.push(snapshot);
            let (density, map) = (history.density()?, history.heat_map()?);
            let density =
                density.map(|png| self.value(&density_tag(name), &density_meaning(of), Data::Image(png)));
            let map = map.map(|png| self.value(&heat_map_tag(name), &heat_map_meaning(of), Data::Image(png)));
            values.extend(density.into_iter().chain(map));
        }
        Ok(vec![Event::Summary(values)])
    }

    /// The heat map up to the last step, where steps after the last one have come.
    fn last_heat_map(&mut self) -> io::Result<Option<(u64, f64, Event)>> {
        let Some(history) = &mut self.history else { return Ok(None) };
        let (of, name) = operator(history.is_preconditioned());
        let Some((step, wall_time, png)) = history.last_heat_map()? else { return Ok(None) };
        let value = self.value(&heat_map_tag(name), &heat_map_meaning(of), Data::Image(png));
        Ok(Some((step, wall_time, Event::Summary(vec![value]))))
    }

    fn tracked(&mut self, tracked: &Tracked) -> Vec<Event> {
        self.plain(scalars::tracked(tracked))
    }

    fn sharpness(&mut self, found: &CriticalSharpness) -> Vec<Event> {
        self.plain(cheap_scalars::sharpness(found))
    }

    fn plain(&mut self, scalars: Vec<Scalar>) -> Vec<Event> {
        let value =
            |scalar: Scalar| self.value(&scalar.tag, &scalar.description, Data::Scalar(scalar.value as f32));
        vec![Event::Summary(scalars.into_iter().map(value).collect())]
    }

    fn skipped(&mut self, skipped: &Skipped) -> Vec<Event> {
        self.text("probe/skipped", "Why a probe that was due did not come about.", &skipped.reason)
    }

    fn triggered(&mut self, triggered: &Triggered) -> Vec<Event> {
        self.text("probe/triggered", "Why a probe started by itself.", &triggered.to_string())
    }

    fn text(&mut self, tag: &str, meaning: &str, text: &str) -> Vec<Event> {
        let fence = fence(text);
        let text = format!("{fence}\n{text}\n{fence}\n");
        vec![Event::Summary(vec![self.value(tag, meaning, Data::Text(text))])]
    }

    fn value(&mut self, tag: &str, description: &str, data: Data) -> Value {
        let description = self.described.insert(tag.into()).then(|| description.into());
        Value { tag: tag.into(), description, data }
    }
}

/// What a spectrum is of, and the first part of its tags: a chart must not mix two operators.
fn operator(preconditioned: bool) -> (&'static str, &'static str) {
    if preconditioned {
        ("P^{-1/2} H P^{-1/2}", "preconditioned_spectrum")
    } else {
        ("the Hessian", "spectrum")
    }
}

fn density_tag(name: &str) -> String {
    format!("{name}/density_plot")
}

fn density_meaning(of: &str) -> String {
    format!(
        "Eigenvalues of {of} for each decade (upwards, logarithmic) over the eigenvalue (symmetric-logarithmic), with the \
         standard error over probe vectors as a band. Grey: eigenvalues that the noise hides."
    )
}

fn heat_map_tag(name: &str) -> String {
    format!("{name}/heat_map")
}

fn heat_map_meaning(of: &str) -> String {
    format!(
        "Eigenvalues of {of} (upwards, symmetric-logarithmic) over steps; the darker, the more for each decade, on a \
         logarithmic scale from 0.01. Between the dotted lines the noise hides them."
    )
}

/// A Markdown fence that `text` does not close.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// A file whose name sorts after those of all event files that are already there, whatever the clock
/// says: a run may be resumed within the second, or on a machine whose clock is behind.
fn create_file(dir: &Path) -> io::Result<AppendFile> {
    let mut latest = 0;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let seconds =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok());
        latest = latest.max(seconds.map_or(0, |seconds| seconds.saturating_add(1)));
    }
    let seconds = latest.max(now() as u64);
    let process = std::process::id();
    let mut counter = 0;
    loop {
        let name = format!("{PREFIX}{seconds:010}.hessian-probe.{process}.{counter}");
        match AppendFile::create_new(dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => counter += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn later_files_sort_after_earlier_ones_whatever_the_clock_says() {
        let dir = tempfile::tempdir().unwrap();
        let ahead = (now() as u64) + 1_000_000;
        std::fs::write(dir.path().join(format!("{PREFIX}{ahead}.host.1.0")), b"").unwrap();
        let mut created = Vec::new();
        for _ in 0..5 {
            let sink = TensorBoardSink::create(dir.path(), None).unwrap();
            created.push(sink.path().file_name().unwrap().to_str().unwrap().to_owned());
        }
        assert_eq!(names(dir.path())[1..], created);
    }

    #[test]
    fn a_record_that_could_not_be_written_leaves_its_descriptions_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = TensorBoardSink::create(dir.path(), None).unwrap();
        let full = AppendFile::open("/dev/full".into()).unwrap();
        let good = std::mem::replace(&mut sink.file, full);
        sink.write(&fixture::snapshot_record(0)).unwrap_err();
        assert!(sink.state.described.is_empty() && sink.state.axis.is_none());
        sink.file = good;
        sink.write(&fixture::snapshot_record(1)).unwrap();
        assert!(sink.state.described.contains("spectrum/density") && sink.state.axis.is_some());
    }

    #[test]
    fn a_fence_is_longer_than_any_in_the_text() {
        assert_eq!(fence("plain"), "```");
        assert_eq!(fence("a ```` b `"), "`````");
    }
}
