//! From records to a file of events.

use super::event::Event;
use super::histogram::SymlogAxis;
use super::images::Image;
use super::plot::History;
use super::record::frame;
use super::state::State;
use crate::clock::unix_time;
use crate::log::append_file::AppendFile;
use crate::log::earlier::spectra;
use crate::log::record::Record;
use crate::log::reopen::{self, Reopen};
use crate::log::sink::Sink;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

const PREFIX: &str = "events.out.tfevents.";

/// Writes records to a TensorBoard event file of its own: see the [module](super) for the tags.
#[derive(Debug)]
pub struct TensorBoardSink {
    file: AppendFile,
    state: State,
    /// Where images are asked for.
    history: Option<History>,
    /// Those of the record that is being written.
    images: Vec<Image>,
    /// What the log has of sessions before has been read.
    resumed: bool,
    /// The session that this process opened: it is written again where the file was deleted.
    session: Option<Record>,
}

impl TensorBoardSink {
    /// Makes a new event file in a directory. `axis` is that of the histograms; by default it is
    /// [`SymlogAxis::of_log`], and where the log has no snapshot yet, [`SymlogAxis::of_snapshot`] of the first one written.
    ///
    /// # Errors
    /// When the file cannot be made or written to.
    pub fn create(dir: &Path, axis: Option<SymlogAxis>) -> io::Result<Self> {
        let state = State { axis, ..State::default() };
        let file = begin_file(dir)?;
        Ok(Self { file, state, history: None, images: Vec::new(), resumed: false, session: None })
    }

    /// Also draws densities and heat maps.
    #[must_use]
    pub fn with_plots(mut self) -> Self {
        self.history = Some(History::default());
        self
    }

    /// Goes on from what the log has of sessions before: with the axis of its first snapshot and, where a session begins,
    /// its spectra. That is done once and on the writer's thread, so that training does not wait for it.
    fn resume(&mut self, first: &Record) {
        let mut history = self.history.as_mut().filter(|_| matches!(first, Record::Session(_)));
        if history.is_none() && self.state.axis.is_some() {
            return;
        }
        for record in spectra(self.file.path().parent().unwrap_or(Path::new("."))) {
            if let Record::Snapshot(snapshot) = &record {
                self.state.axis = self.state.axis.or_else(|| SymlogAxis::of_snapshot(snapshot));
            }
            match &mut history {
                Some(history) => history.take(&record),
                None if self.state.axis.is_some() => return,
                None => {}
            }
        }
    }

    /// Takes a record into the history, and draws the images that it brings.
    fn draw(&mut self, record: &Record) -> io::Result<()> {
        let Some(history) = &mut self.history else { return Ok(()) };
        history.take(record);
        if !matches!(record, Record::Snapshot(_)) {
            return Ok(());
        }
        let of = history.operator();
        let density = history.density();
        let density = density.map(|png| self.images.extend(png.map(|png| Image::density(of, png))));
        let map = history.heat_map();
        let map = map.map(|png| self.images.extend(png.map(|png| Image::heat_map(of, png))));
        density.and(map)
    }

    /// The heat map up to the last step, where steps after the last one have come.
    fn draw_last(&mut self) -> io::Result<()> {
        let Some(history) = &mut self.history else { return Ok(()) };
        let of = history.operator();
        let Some((step, unix_time, png)) = history.last_heat_map()? else { return Ok(()) };
        let mut state = self.state.clone();
        let map = Image::heat_map(of, png).value(&mut state);
        self.append_events(state, unix_time, step, &[Event::Summary(vec![map])])
    }

    fn append_events(&mut self, state: State, unix_time: f64, step: u64, events: &[Event]) -> io::Result<()> {
        let mut out = Vec::new();
        for event in events {
            frame(&event.encode(unix_time, step), &mut out);
        }
        self.file.append(&out)?;
        self.state = state;
        Ok(())
    }
}

impl Reopen for TensorBoardSink {
    fn file(&self) -> &AppendFile {
        &self.file
    }

    fn begin_again(&mut self, dir: &Path) -> io::Result<()> {
        self.file = begin_file(dir)?;
        self.state.described = Arc::default();
        Ok(())
    }

    fn session(&mut self) -> &mut Option<Record> {
        &mut self.session
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut state = self.state.clone();
        let (unix_time, step, events) = match record {
            Record::Session(session) => (unix_time(), session.start_step, state.session(session)),
            Record::Snapshot(snapshot) => {
                let images = std::mem::take(&mut self.images);
                (snapshot.unix_time, snapshot.step, state.snapshot(snapshot, images))
            }
            Record::Tracked(tracked) => (tracked.unix_time, tracked.step, state.tracked(tracked)),
            Record::Sharpness(found) => (found.unix_time, found.step, state.sharpness(found)),
            Record::Triggered(triggered) => (triggered.unix_time, triggered.step, state.triggered(triggered)),
            Record::Skipped(skipped) => (unix_time(), skipped.step, state.skipped(skipped)),
        };
        self.append_events(state, unix_time, step, &events)
    }
}

impl Sink for TensorBoardSink {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        if !std::mem::replace(&mut self.resumed, true) {
            self.resume(record);
        }
        // Told last, whether it failed or panicked: an image costs the numbers nothing.
        let drawn = catch_unwind(AssertUnwindSafe(|| self.draw(record)));
        let written = reopen::write(self, record);
        if written.is_err() && matches!(record, Record::Snapshot(_)) {
            self.images.clear();
            self.history.iter_mut().for_each(History::redraw);
        }
        written.and(drawn.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    fn finish(&mut self) -> io::Result<()> {
        // First, and again for the last image: where that fails, the rest is on the disk.
        let synced = self.file.sync();
        let drawn = self.draw_last().and_then(|()| self.file.sync());
        synced.and(drawn)
    }
}

/// A new event file, which begins with the version of its format.
fn begin_file(dir: &Path) -> io::Result<AppendFile> {
    let mut file = create_file(dir)?;
    let mut out = Vec::new();
    frame(&Event::FileVersion.encode(unix_time(), 0), &mut out);
    file.append(&out)?;
    Ok(file)
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
    let seconds = latest.max(unix_time() as u64);
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
mod tests;
