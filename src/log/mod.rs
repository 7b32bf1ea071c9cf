//! Where results go: a writer thread, JSON lines, TensorBoard event files.
//!
//! A [`LogWriter`] takes [`Record`]s from the training thread without ever blocking it and gives them,
//! on a thread of its own, to its [`Sink`]s:
//! - [`JsonlSink`]: `snapshots.jsonl`, everything that a probe found, read back by [`read_jsonl`];
//! - [`TensorBoardSink`](tensorboard::TensorBoardSink): what can be drawn, under the tags that
//!   [`tensorboard`] lists.
//!
//! # What survives what
//! | event | what is on the disk |
//! |---|---|
//! | `LogWriter` dropped, also by `?` or by a panic that unwinds | every record accepted |
//! | `kill -9`, `std::process::exit`, `abort` | every record already taken from the queue, and at most a torn last line, which readers skip |
//! | power cut | what the operating system had written back; the files are synced when they are closed |
//! | disk full | what fitted; each failure is reported, later records are still tried |
//!
//! `std::process::exit` runs no destructors: call [`LogWriter::flush`] before it. A `fork` without
//! `exec` does not copy the writer thread, so a forked child must not log.

mod append_file;
mod earlier;
#[cfg(test)]
mod fixture;
mod jsonl;
mod read;
mod record;
mod reopen;
mod sink;
pub mod tensorboard;
mod writer;

pub use jsonl::{JSONL_FILE, JsonlSink};
pub use read::{JsonLines, drop_orphans, read_jsonl};
pub use record::{Record, Session, Skipped};
pub use sink::Sink;
pub use writer::LogWriter;
