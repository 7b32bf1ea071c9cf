//! Reading JSON lines back.

use super::record::{Record, Session};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Reads the records of a `snapshots.jsonl` one by one.
///
/// A line that a crash tore (the last one, or the one before the [`Session`] of the process that went
/// on) is skipped with a warning. Any other line that is not a record is an `Err` item with its number,
/// and reading goes on after it.
///
/// # Errors
/// When the file cannot be opened.
///
/// ```
/// use hessian_probe::log::{Record, drop_orphans, read_jsonl};
///
/// # let directory = std::env::temp_dir().join(format!("hessian-probe-doc-read-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("snapshots.jsonl");
/// # std::fs::write(
/// #     &path,
/// #     "{\"record\":\"skipped\",\"step\":7,\"reason\":\"no time\"}\n{\"record\":\"skip",
/// # )?;
/// # /*
/// let path = "runs/hessian-probe/snapshots.jsonl";
/// # */
/// let records = read_jsonl(path)?.collect::<Result<Vec<_>, _>>()?;
/// # assert_eq!(records.len(), 1);
/// for record in drop_orphans(records) {
///     match record {
///         Record::Snapshot(snapshot) => println!("{} {}", snapshot.step, snapshot.lambda_max.value),
///         Record::Skipped(skipped) => println!("{}: {}", skipped.step, skipped.reason),
///         _ => {}
///     }
/// }
/// # std::fs::remove_dir_all(directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_jsonl(path: impl AsRef<Path>) -> Result<JsonLines> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| Error::Log { path: path.to_owned(), source })?;
    Ok(JsonLines { path: path.to_owned(), reader: BufReader::new(file), line: 0, next: None, end: false })
}

/// The iterator of [`read_jsonl`].
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
    /// A line read ahead, to know what follows a torn one.
    next: Option<Line>,
    end: bool,
}

#[derive(Debug)]
enum Line {
    Record(Box<Record>),
    /// It ends too early: a process stopped while it was written, or it is the file's fault.
    Torn(Error),
    Bad(Error),
}

impl Iterator for JsonLines {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next.take().or_else(|| self.read_line())? {
            Line::Record(record) => Some(Ok(*record)),
            Line::Bad(error) => Some(Err(error)),
            Line::Torn(error) => match self.read_line() {
                None => {
                    log::warn!("{error}; the last line was torn and is skipped");
                    None
                }
                Some(Line::Record(record)) if matches!(*record, Record::Session(_)) => {
                    log::warn!("{error}; the line was torn by an interruption and is skipped");
                    Some(Ok(*record))
                }
                following => {
                    self.next = following;
                    Some(Err(error))
                }
            },
        }
    }
}

impl JsonLines {
    fn read_line(&mut self) -> Option<Line> {
        let mut bytes = Vec::new();
        loop {
            if self.end {
                return None;
            }
            bytes.clear();
            match self.reader.read_until(b'\n', &mut bytes) {
                Ok(0) => self.end = true,
                Ok(_) => {
                    self.line += 1;
                    if !bytes.trim_ascii().is_empty() {
                        return Some(self.parse(&bytes));
                    }
                }
                Err(source) => {
                    // Reading on would most likely return the same error for ever.
                    self.end = true;
                    return Some(Line::Bad(Error::Log { path: self.path.clone(), source }));
                }
            }
        }
    }

    fn parse(&self, bytes: &[u8]) -> Line {
        // With its line break, a line torn inside a string would look like a bad character, not like an end.
        let line = bytes.strip_suffix(b"\n");
        match serde_json::from_slice(line.unwrap_or(bytes)) {
            Ok(record) => Line::Record(Box::new(record)),
            Err(error) => {
                let torn = error.is_eof() || line.is_none();
                let reason = format!("line {}: {error}", self.line);
                let source = io::Error::new(io::ErrorKind::InvalidData, reason);
                let error = Error::Log { path: self.path.clone(), source };
                if torn { Line::Torn(error) } else { Line::Bad(error) }
            }
        }
    }
}

/// Leaves out what an interrupted process logged and the one that resumed does again: snapshots and
/// skipped probes with a step of at least the `start_step` of a later [`Session`].
#[must_use]
pub fn drop_orphans(records: Vec<Record>) -> Vec<Record> {
    let mut kept: Vec<Record> = Vec::with_capacity(records.len());
    for record in records {
        if let Record::Session(Session { start_step, .. }) = record {
            kept.retain(|earlier| match earlier {
                Record::Snapshot(snapshot) => snapshot.step < start_step,
                Record::Skipped(skipped) => skipped.step < start_step,
                Record::Tracked(tracked) => tracked.step < start_step,
                Record::Sharpness(found) => found.step < start_step,
                Record::Triggered(triggered) => triggered.step < start_step,
                Record::Session(_) => true,
            });
        }
        kept.push(record);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;

    fn read(text: &str) -> Vec<std::result::Result<Record, String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_jsonl(file.path()).unwrap().map(|item| item.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn a_bad_line_is_an_error_with_its_number_and_reading_goes_on() {
        let good = serde_json::to_string(&fixture::skipped(1, "x")).unwrap();
        let items = read(&format!("{good}\n\n{{\"record\":\"unheard-of\"}}\n{good}\nnot json\n{good}\n"));
        assert_eq!(items.len(), 5);
        assert!(items[1].as_ref().unwrap_err().contains("line 3: unknown variant `unheard-of`"), "{items:?}");
        assert!(items[3].as_ref().unwrap_err().contains("line 5: "), "{items:?}");
        assert!(items[0].is_ok() && items[2].is_ok() && items[4].is_ok());
    }

    #[test]
    fn a_torn_line_amid_a_session_is_reported() {
        let good = serde_json::to_string(&fixture::skipped(1, "x")).unwrap();
        let items = read(&format!("{good}\n{}\n{good}\n", &good[..20]));
        assert!(items[1].as_ref().unwrap_err().contains("line 2: EOF"), "{items:?}");
        assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 2);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_jsonl("no/such/file.jsonl").unwrap_err().to_string();
        assert!(error.contains("no/such/file.jsonl"), "{error}");
    }

    #[test]
    fn orphans_of_every_interruption_are_dropped() {
        let snapshot = fixture::snapshot_record;
        let records = vec![
            fixture::session(0),
            snapshot(0),
            snapshot(10),
            fixture::skipped(20, "x"),
            snapshot(30),
            fixture::session(20),
            snapshot(20),
            snapshot(30),
            snapshot(40),
            fixture::session(35),
            snapshot(40),
        ];
        let expected = vec![
            fixture::session(0),
            snapshot(0),
            snapshot(10),
            fixture::session(20),
            snapshot(20),
            snapshot(30),
            fixture::session(35),
            snapshot(40),
        ];
        assert_eq!(drop_orphans(records), expected);
    }
}
