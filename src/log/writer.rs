//! The writer thread, and the queue before it.

use super::jsonl::JsonlSink;
use super::record::Record;
use super::sink::Sink;
use super::tensorboard::TensorBoardSink;
use crate::config::LogConfig;
use crate::error::{Error, Result};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Writes records on a thread of its own; [`log`](Self::log) never waits.
///
/// What is accepted is written: dropping the writer waits for the thread, however long the disk takes,
/// also when an error or a panic unwinds the training loop. See the [module](super) for what that does
/// not cover.
#[derive(Debug)]
pub struct LogWriter {
    /// `None` only while the writer is being dropped.
    queue: Option<Sender<Record>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    dir: PathBuf,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
    error: Mutex<Option<Error>>,
    /// Records with which the thread is done, written or failed.
    done: Mutex<u64>,
    progress: Condvar,
}

impl LogWriter {
    /// Makes the directory, opens the files that `config` asks for and starts the thread.
    ///
    /// # Errors
    /// [`Error::Log`] with the path that cannot be made, read or appended to.
    pub fn open(config: &LogConfig) -> Result<Self> {
        let dir = config.dir.as_path();
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Log { path, source }
        };
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if config.jsonl || config.tensorboard {
            std::fs::create_dir_all(dir).map_err(at(dir))?;
        }
        if config.jsonl {
            let sink = JsonlSink::open(dir).map_err(at(&dir.join(super::JSONL_FILE)))?;
            sinks.push(Box::new(sink));
        }
        if config.tensorboard {
            let sink = TensorBoardSink::create(dir, None).map_err(at(dir))?;
            sinks.push(Box::new(if config.plots { sink.with_plots() } else { sink }));
        }
        Self::with_sinks(dir, sinks, config.queue)
    }

    /// Starts the thread with sinks of one's own. `dir` is only named in error messages.
    ///
    /// # Errors
    /// [`Error::Log`] when the thread cannot be started.
    pub fn with_sinks(dir: impl Into<PathBuf>, sinks: Vec<Box<dyn Sink>>, queue: usize) -> Result<Self> {
        let dir = dir.into();
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = bounded(queue.max(1));
        let thread = std::thread::Builder::new()
            .name("hessian-probe-log".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || write_all(&receiver, sinks, &shared)
            })
            .map_err(|source| Error::Log { path: dir.clone(), source })?;
        Ok(Self { queue: Some(sender), thread: Some(thread), shared, dir })
    }

    /// Hands a record to the thread and returns at once. `false`: the queue was full; the record is
    /// dropped, counted and warned about.
    pub fn log(&self, record: Record) -> bool {
        let Some(queue) = &self.queue else { return false };
        let reason = match queue.try_send(record) {
            Ok(()) => {
                self.shared.accepted.fetch_add(1, Ordering::SeqCst);
                return true;
            }
            Err(TrySendError::Full(_)) => "the queue to the disk is full (`log.queue`)",
            Err(TrySendError::Disconnected(_)) => "the writer thread has died",
        };
        let dropped = self.shared.dropped.fetch_add(1, Ordering::SeqCst) + 1;
        log::warn!("log {}: {reason}; a record is dropped, {dropped} so far", self.dir.display());
        false
    }

    /// How many records were not accepted.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::SeqCst)
    }

    /// How often a sink failed to write a record. Each failure was also logged at level `error`.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::SeqCst)
    }

    /// The first failure since the last call, if there was one.
    #[must_use]
    pub fn take_error(&self) -> Option<Error> {
        self.shared.error.lock().take()
    }

    /// Waits until the operating system has every record that was accepted before this call.
    ///
    /// # Errors
    /// The first failure since the last [`take_error`](Self::take_error), or [`Error::Log`] with
    /// [`io::ErrorKind::TimedOut`]; what is still in the queue then will be written all the same.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        let target = self.shared.accepted.load(Ordering::SeqCst);
        let deadline = Instant::now().checked_add(timeout);
        let mut done = self.shared.done.lock();
        while *done < target {
            let timed_out = match deadline {
                Some(deadline) => self.shared.progress.wait_until(&mut done, deadline).timed_out(),
                None => {
                    self.shared.progress.wait(&mut done);
                    false
                }
            };
            if timed_out && *done < target {
                let reason = format!("{} records still wait after {timeout:?}", target - *done);
                let source = io::Error::new(io::ErrorKind::TimedOut, reason);
                return Err(Error::Log { path: self.dir.clone(), source });
            }
        }
        drop(done);
        self.take_error().map_or(Ok(()), Err)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It catches what sinks do; were it to panic all the same, this must not do so as well.
            let _ = thread.join();
        }
    }
}

fn write_all(queue: &Receiver<Record>, mut sinks: Vec<Box<dyn Sink>>, shared: &Shared) {
    for record in queue {
        for sink in &mut sinks {
            attempt(sink.as_mut(), shared, |sink| sink.write(&record));
        }
        *shared.done.lock() += 1;
        shared.progress.notify_all();
    }
    for sink in &mut sinks {
        attempt(sink.as_mut(), shared, |sink| sink.finish());
    }
}

fn attempt(sink: &mut dyn Sink, shared: &Shared, action: impl FnOnce(&mut dyn Sink) -> io::Result<()>) {
    let source = match catch_unwind(AssertUnwindSafe(|| action(sink))) {
        Ok(Ok(())) => return,
        Ok(Err(source)) => source,
        Err(panic) => io::Error::other(format!("the sink panicked: {}", panic_message(panic.as_ref()))),
    };
    let error = Error::Log { path: sink.path().to_owned(), source };
    log::error!("{error}");
    shared.failures.fetch_add(1, Ordering::SeqCst);
    shared.error.lock().get_or_insert(error);
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
