//! JSON lines: everything, for programs.
//!
//! # Format
//! `snapshots.jsonl`, UTF-8. Each line is one [`Record`]: a JSON object with the key `"record"`
//! (`"session"`, `"snapshot"`, `"tracked"`, `"sharpness"`,
//! `"triggered"` or `"skipped"`) beside the record's own keys, ended by one `\n`. Floats are
//! written so that they read back with the same bits. A process appends: a training that was resumed
//! has several sessions in one file, and [`drop_orphans`](super::drop_orphans) tells what still counts.
//! A line that a crash left unfinished is ended by the next process, so that only that line is lost.

use super::append_file::AppendFile;
use super::record::Record;
use super::reopen::{self, Reopen};
use super::sink::Sink;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The name of the file in the log directory.
pub const JSONL_FILE: &str = "snapshots.jsonl";

/// Appends records to `snapshots.jsonl`.
#[derive(Debug)]
pub struct JsonlSink {
    file: AppendFile,
    /// The file ends in an unfinished line.
    unfinished: bool,
    /// The session that this process opened: it is written again where the file was deleted.
    session: Option<Record>,
}

impl JsonlSink {
    /// Opens `snapshots.jsonl` in a directory, and makes it if it does not exist.
    ///
    /// # Errors
    /// When it cannot be read or appended to.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(JSONL_FILE);
        let file = AppendFile::open(path)?;
        let unfinished = ends_in_unfinished_line(file.path())?;
        Ok(Self { file, unfinished, session: None })
    }
}

impl Reopen for JsonlSink {
    fn file(&self) -> &AppendFile {
        &self.file
    }

    fn begin_again(&mut self, dir: &Path) -> io::Result<()> {
        let opened = Self::open(dir)?;
        *self = Self { session: self.session.take(), ..opened };
        Ok(())
    }

    fn session(&mut self) -> &mut Option<Record> {
        &mut self.session
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = Vec::new();
        if self.unfinished {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');
        self.file.append(&line)?;
        self.unfinished = false;
        Ok(())
    }
}

impl Sink for JsonlSink {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        reopen::write(self, record)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

fn ends_in_unfinished_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;
    use crate::log::read::read_jsonl;

    #[test]
    fn records_read_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let mut snapshot = fixture::snapshot_with_blocks(7);
        snapshot.loss = 0.1 + 0.2;
        snapshot.gradient_norm = f64::MIN_POSITIVE;
        snapshot.seed = u64::MAX;
        let records = [
            fixture::session(0),
            Record::Snapshot(Box::new(snapshot)),
            fixture::skipped(9, "a \"reason\"\nof two lines, λ"),
        ];
        let mut sink = JsonlSink::open(dir.path()).unwrap();
        for record in &records {
            sink.write(record).unwrap();
        }
        sink.finish().unwrap();
        let read: Vec<Record> = read_jsonl(sink.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, records);
    }

    #[test]
    fn each_record_is_one_line_tagged_with_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = JsonlSink::open(dir.path()).unwrap();
        sink.write(&fixture::skipped(3, "a\nb")).unwrap();
        let text = std::fs::read_to_string(sink.path()).unwrap();
        assert_eq!(text, "{\"record\":\"skipped\",\"step\":3,\"reason\":\"a\\nb\"}\n");
    }

    /// What came later is left out where it is not asked for: lines of earlier versions are such lines.
    #[test]
    fn a_snapshot_of_the_hessian_alone_is_the_line_that_it_was() {
        let line = serde_json::to_value(fixture::snapshot_record(1)).unwrap();
        for later in ["operator", "stability", "preconditioned", "directions"] {
            assert!(line.get(later).is_none(), "{later}");
        }
        assert_eq!(serde_json::from_value::<Record>(line).unwrap(), fixture::snapshot_record(1));
        let seen = Record::Snapshot(Box::new(fixture::snapshot_with_optimizer(1)));
        let line = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), seen);
    }

    #[test]
    fn a_line_torn_at_any_byte_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JSONL_FILE);
        let before = [fixture::session(0), fixture::snapshot_record(10)];
        let torn = fixture::skipped(20, "Größe λ");
        let resumed = [fixture::session(20), fixture::snapshot_record(20)];

        let mut sink = JsonlSink::open(dir.path()).unwrap();
        before.iter().for_each(|record| sink.write(record).unwrap());
        let start = std::fs::read(&path).unwrap().len();
        sink.write(&torn).unwrap();
        let whole = std::fs::read(&path).unwrap();

        for end in start..=whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let complete = end + 1 >= whole.len();
            let mut expected = before.to_vec();
            if complete {
                expected.push(torn.clone());
            }
            let read: Vec<Record> = read_jsonl(&path).unwrap().map(Result::unwrap).collect();
            assert_eq!(read, expected, "cut at byte {end}");

            let mut sink = JsonlSink::open(dir.path()).unwrap();
            resumed.iter().for_each(|record| sink.write(record).unwrap());
            expected.extend(resumed.clone());
            let read: Vec<Record> = read_jsonl(&path).unwrap().map(Result::unwrap).collect();
            assert_eq!(read, expected, "cut at byte {end}, then resumed");
        }
    }

    #[test]
    fn a_file_cut_anywhere_gives_its_complete_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(JSONL_FILE);
        let records =
            [fixture::session(0), fixture::snapshot_record(1), fixture::skipped(2, "λ"), fixture::session(2)];
        let mut sink = JsonlSink::open(dir.path()).unwrap();
        records.iter().for_each(|record| sink.write(record).unwrap());
        let whole = std::fs::read(&path).unwrap();
        for end in 0..=whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let lines = whole[..end].iter().filter(|&&byte| byte == b'\n').count();
            let only_newline_lost = whole.get(end) == Some(&b'\n');
            let read: Vec<Record> = read_jsonl(&path).unwrap().map(Result::unwrap).collect();
            assert_eq!(read, records[..lines + usize::from(only_newline_lost)], "cut at byte {end}");
        }
    }
}
