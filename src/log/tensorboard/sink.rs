//! From records to a file of events.

use super::event::Event;
use super::histogram::SymlogAxis;
use super::images::Image;
use super::plot::History;
use super::record::frame;
use super::state::State;
use crate::log::append_file::AppendFile;
use crate::log::earlier::spectra;
use crate::log::record::Record;
use crate::log::reopen::{self, Reopen};
use crate::log::sink::Sink;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const PREFIX: &str = "events.out.tfevents.";

/// Writes records to a TensorBoard event file of its own: see the [module](super) for the tags.
#[derive(Debug)]
pub struct TensorBoardSink {
    file: AppendFile,
    state: State,
    /// Where images are asked for.
    history: Option<History>,
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
        Ok(Self { file: begin_file(dir)?, state, history: None, resumed: false, session: None })
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

    /// The images that a record brings.
    fn draw(&mut self, record: &Record) -> io::Result<()> {
        let Some(history) = &mut self.history else { return Ok(()) };
        history.take(record);
        let Record::Snapshot(snapshot) = record else { return Ok(()) };
        let of = history.operator();
        let images = [
            history.density().map(|png| png.map(|png| Image::density(of, png))),
            history.heat_map().map(|png| png.map(|png| Image::heat_map(of, png))),
        ];
        self.append_images(snapshot.unix_time, snapshot.step, images)
    }

    /// The heat map up to the last step, where steps after the last one have come.
    fn draw_last(&mut self) -> io::Result<()> {
        let Some(history) = &mut self.history else { return Ok(()) };
        let of = history.operator();
        let Some((step, unix_time, png)) = history.last_heat_map()? else { return Ok(()) };
        self.append_images(unix_time, step, [Ok(Some(Image::heat_map(of, png)))])
    }

    /// Appends those that there are; what became of the others is told afterwards.
    fn append_images<const N: usize>(
        &mut self,
        unix_time: f64,
        step: u64,
        images: [io::Result<Option<Image>>; N],
    ) -> io::Result<()> {
        let mut state = self.state.clone();
        let (mut values, mut done) = (Vec::new(), Ok(()));
        for image in images {
            match image {
                Ok(image) => values.extend(image.map(|image| image.value(&mut state))),
                Err(error) => done = done.and(Err(error)),
            }
        }
        if !values.is_empty() {
            done = done.and(self.append_events(state, unix_time, step, &[Event::Summary(values)]));
        }
        if done.is_err() {
            self.history.iter_mut().for_each(History::redraw);
        }
        done
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
            Record::Session(session) => (now(), session.start_step, state.session(session)),
            Record::Snapshot(snapshot) => (snapshot.unix_time, snapshot.step, state.snapshot(snapshot)),
            Record::Tracked(tracked) => (tracked.unix_time, tracked.step, state.tracked(tracked)),
            Record::Sharpness(found) => (found.unix_time, found.step, state.sharpness(found)),
            Record::Triggered(triggered) => (triggered.unix_time, triggered.step, state.triggered(triggered)),
            Record::Skipped(skipped) => (now(), skipped.step, state.skipped(skipped)),
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
        let written = reopen::write(self, record);
        // Last, and whatever became of the numbers: an image that fails, or panics, costs nothing else.
        let drawn = self.draw(record);
        written.and(drawn)
    }

    fn finish(&mut self) -> io::Result<()> {
        // First, and again for the last image: where that fails, the rest is on the disk.
        let synced = self.file.sync();
        let drawn = self.draw_last().and_then(|()| self.file.sync());
        synced.and(drawn)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// A new event file, which begins with the version of its format.
fn begin_file(dir: &Path) -> io::Result<AppendFile> {
    let mut file = create_file(dir)?;
    let mut out = Vec::new();
    frame(&Event::FileVersion.encode(now(), 0), &mut out);
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
mod tests;
