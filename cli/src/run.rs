//! What a log, or a report, says of a run: what `show`, `render` and `compare` read.

use hessian_probe::Snapshot;
use hessian_probe::log::{JSONL_FILE, Record, Session, Skipped, drop_orphans, read_jsonl};
use hessian_probe::sharpness::CriticalSharpness;
use hessian_probe::tracking::Tracked;
use hessian_probe::triggers::Triggered;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The records of a run, orphans of interrupted sessions left out; of a report, its snapshot.
#[derive(Debug, Default)]
pub struct Run {
    /// In the order of their steps. Not empty.
    pub snapshots: Vec<Snapshot>,
    pub tracked: Vec<Tracked>,
    pub sharpness: Vec<CriticalSharpness>,
    pub triggered: Vec<Triggered>,
    pub skipped: Vec<Skipped>,
    pub sessions: Vec<Session>,
    /// Why lines could not be read.
    pub unreadable: Vec<String>,
}

impl Run {
    /// Of a log directory, a `snapshots.jsonl`, or a report.
    pub fn read(path: &Path) -> Result<Self, String> {
        let at = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
        let file = if path.is_dir() { path.join(JSONL_FILE) } else { path.to_owned() };
        if path.is_dir() && !file.exists() {
            return Err(at(&format_args!("a directory without {JSONL_FILE}: name that of a log")));
        }
        let open = || File::open(&file).map(BufReader::new).map_err(|error| at(&error));
        // A log is told from a report by its second line at the latest: of what may be gigabytes no more is read for that.
        let report = match serde_json::from_reader(open()?) {
            Ok(report) => return Ok(Self { snapshots: vec![report], ..Self::default() }),
            Err(error) => error,
        };
        let run = Self::of_log(&file).map_err(|error| at(&error))?;
        if run.snapshots.is_empty() {
            let is_space = |byte: io::Result<u8>| byte.is_ok_and(|byte| byte.is_ascii_whitespace());
            let is_empty = open()?.bytes().all(is_space);
            return Err(at(&run.without_snapshot((!is_empty).then_some(&report))));
        }
        Ok(run)
    }

    fn of_log(file: &Path) -> Result<Self, hessian_probe::Error> {
        let (mut records, mut run) = (Vec::new(), Self::default());
        for line in read_jsonl(file)? {
            match line {
                Ok(record) => records.push(record),
                Err(error) => run.unreadable.push(reason(&error)),
            }
        }
        for record in drop_orphans(records) {
            match record {
                Record::Snapshot(snapshot) => run.snapshots.push(*snapshot),
                Record::Tracked(tracked) => run.tracked.push(tracked),
                Record::Sharpness(found) => run.sharpness.push(found),
                Record::Triggered(triggered) => run.triggered.push(triggered),
                Record::Skipped(skipped) => run.skipped.push(skipped),
                Record::Session(session) => run.sessions.push(session),
                // Of a later version.
                _ => {}
            }
        }
        // A directory that two runs share still reads as a course of steps.
        run.snapshots.sort_by_key(|snapshot| snapshot.step);
        Ok(run)
    }

    /// `report` is why it is none, where the file has something in it.
    fn without_snapshot(&self, report: Option<&serde_json::Error>) -> String {
        let records = self.sessions.len() + self.tracked.len() + self.sharpness.len() + self.triggered.len();
        match (self.skipped.last(), self.unreadable.first(), report) {
            (Some(skipped), ..) => format!(
                "holds no snapshot; {} probe(s) were skipped, the last at step {}: {}",
                self.skipped.len(),
                skipped.step,
                skipped.reason
            ),
            (None, Some(line), Some(report)) if records == 0 => {
                format!("is neither a report ({report}) nor a log of snapshots ({line})")
            }
            // All that it has is a line without an end.
            (None, None, Some(report)) if records == 0 => {
                format!("is neither a report ({report}) nor a log of snapshots")
            }
            (None, Some(line), _) => format!("holds no snapshot that can be read: {line}"),
            (None, None, _) => "holds no snapshot".into(),
        }
    }

    /// The snapshot of a step, by default the last.
    pub fn at(&self, step: Option<u64>) -> Result<&Snapshot, String> {
        let found = match step {
            None => self.snapshots.last(),
            Some(step) => self.snapshots.iter().rev().find(|snapshot| snapshot.step == step),
        };
        found.ok_or_else(|| {
            let steps: Vec<String> =
                self.snapshots.iter().map(|snapshot| snapshot.step.to_string()).collect();
            let shown = match &steps[..] {
                [first @ .., last] if first.len() > 12 => format!("{}, …, {last}", steps[..6].join(", ")),
                all => all.join(", "),
            };
            format!("no snapshot of step {}; there are those of {shown}", step.unwrap_or_default())
        })
    }
}

/// Without the path, which is named once.
fn reason(error: &hessian_probe::Error) -> String {
    match error {
        hessian_probe::Error::Log { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Run, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(JSONL_FILE), text).unwrap();
        Run::read(dir.path())
    }

    #[test]
    fn what_holds_no_snapshot_is_refused_with_the_reason() {
        let skipped = "{\"record\":\"skipped\",\"step\":7,\"reason\":\"the loss is NaN\"}\n";
        for (text, reason) in [
            ("", "holds no snapshot"),
            ("\n\n", "holds no snapshot"),
            (skipped, "the last at step 7: the loss is NaN"),
            ("not json\n", "is neither a report"),
            ("{\"record\":\"snapshot\",\"version\":1}\n", "missing field"),
            ("\u{0}\u{1}", "is neither a report"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason) && error.contains("/"), "{text:?}: {error}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(Run::read(dir.path()).unwrap_err().contains("without snapshots.jsonl"));
        assert!(Run::read(&dir.path().join("none")).unwrap_err().contains("No such file"));
    }
}
