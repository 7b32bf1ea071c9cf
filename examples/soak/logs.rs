//! What the probe logged, read back session by session: JSON lines, and the frames of event files.

use crate::Result;
use crate::damage::entries;
use hessian_probe::Snapshot;
use hessian_probe::log::{JSONL_FILE, Record, drop_orphans, read_jsonl};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What a session added to the logs.
#[derive(Debug, Default)]
pub struct Added {
    pub records: u64,
    pub snapshots: Vec<Snapshot>,
    /// The last line is not complete.
    pub torn: bool,
    /// Frames of the session's event files, and whether all of those are whole.
    pub frames: u64,
    pub frames_whole: bool,
}

impl Added {
    pub fn steps(&self) -> Vec<u64> {
        self.snapshots.iter().map(|snapshot| snapshot.step).collect()
    }
}

/// What is known to be in the log directory: logs only grow.
#[derive(Debug)]
pub struct Ledger {
    directory: PathBuf,
    jsonl: Vec<u8>,
    event_files: BTreeSet<PathBuf>,
}

impl Ledger {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, jsonl: Vec::new(), event_files: BTreeSet::new() }
    }

    fn jsonl(&self) -> Result<Vec<u8>> {
        match fs::read(self.directory.join(JSONL_FILE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => Ok(other?),
        }
    }

    fn event_files(&self) -> Result<BTreeSet<PathBuf>> {
        let all = entries(&self.directory)?.into_iter();
        Ok(all.filter(|path| path.to_string_lossy().contains("tfevents")).collect())
    }

    /// Takes the files as they are now, after damage.
    pub fn accept(&mut self) -> Result<()> {
        self.jsonl = self.jsonl()?;
        self.event_files = self.event_files()?;
        Ok(())
    }

    /// What a session has added.
    ///
    /// # Errors
    /// Where it did more to the files than to append records.
    pub fn added(&mut self) -> Result<Added> {
        let mut added = Added { frames_whole: true, ..Added::default() };
        let jsonl = self.jsonl()?;
        let new = jsonl.strip_prefix(&self.jsonl[..]).ok_or("a session changed earlier lines of the log")?;
        for line in new.split_inclusive(|byte| *byte == b'\n').filter(|line| *line != b"\n") {
            match serde_json::from_slice(line) {
                Ok(record) => {
                    added.records += 1;
                    if let Record::Snapshot(snapshot) = record {
                        added.snapshots.push(*snapshot);
                    }
                }
                Err(_) if !line.ends_with(b"\n") => added.torn = true,
                Err(error) => {
                    return Err(format!("a session logged a line that is no record: {error}").into());
                }
            }
        }
        for path in self.event_files()?.difference(&self.event_files) {
            let (frames, whole) = frames(&fs::read(path)?);
            added.frames += frames;
            added.frames_whole &= whole;
        }
        self.accept()?;
        Ok(added)
    }
}

/// How many frames an event file begins with, and whether there is nothing else in it. A frame is the length
/// (8 bytes), its checksum, the data, their checksum.
fn frames(mut bytes: &[u8]) -> (u64, bool) {
    let mut count = 0;
    let masked = |data: &[u8]| crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let next = |bytes: &[u8]| -> Option<usize> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let data = rest.get(..size)?;
        let after = rest.get(size..)?.first_chunk::<4>()?;
        (*checksum == masked(length) && *after == masked(data)).then_some(16 + size)
    };
    while let Some(size) = next(bytes) {
        bytes = &bytes[size..];
        count += 1;
    }
    (count, bytes.is_empty())
}

/// The snapshots that count at the end, as a user reads them: without any error.
pub fn snapshots(directory: &Path) -> Result<Vec<Snapshot>> {
    let records = read_jsonl(directory.join(JSONL_FILE))?.collect::<Result<Vec<_>, _>>()?;
    let snapshot = |record| if let Record::Snapshot(snapshot) = record { Some(*snapshot) } else { None };
    Ok(drop_orphans(records).into_iter().filter_map(snapshot).collect())
}
