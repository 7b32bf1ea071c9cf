//! What a log has of the sessions before: the part of it that histograms and images go on from.

use super::jsonl::JSONL_FILE;
use super::record::Record;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// How a line begins, as we write it.
const TAG: &[u8] = b"{\"record\":\"";

/// The snapshots and sessions of a directory's `snapshots.jsonl`, one by one.
///
/// Tracking may have left a line for every step: what its tag tells to be something else is not parsed. Lines that cannot be
/// read are left to those who read the log for its own sake.
pub(super) fn spectra(dir: &Path) -> impl Iterator<Item = Record> + use<> {
    let path = dir.join(JSONL_FILE);
    // A device or a pipe may have no end.
    let file = if path.is_file() { File::open(path).ok() } else { None };
    let mut reader = file.map(BufReader::new);
    let mut line = Vec::new();
    std::iter::from_fn(move || {
        let reader = reader.as_mut()?;
        loop {
            line.clear();
            if !matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                return None;
            }
            if is_other(&line) {
                continue;
            }
            if let Ok(record @ (Record::Session(_) | Record::Snapshot(_))) = serde_json::from_slice(&line) {
                return Some(record);
            }
        }
    })
}

/// Whether a line is something else for certain: one that others have written anew may begin in another way.
fn is_other(line: &[u8]) -> bool {
    let tag = line.strip_prefix(TAG);
    tag.is_some_and(|tag| !tag.starts_with(b"snapshot\"") && !tag.starts_with(b"session\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;

    #[test]
    fn snapshots_and_sessions_are_found_whoever_wrote_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        let records = [fixture::session(0), fixture::snapshot_record(1), fixture::snapshot_record(2)];
        let [session, first, second] =
            records.each_ref().map(|record| serde_json::to_string(record).unwrap());
        let skipped = serde_json::to_string(&fixture::skipped(1, "\"record\":\"snapshot\"")).unwrap();
        // Its keys in another order, and with spaces.
        let anew = serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&second).unwrap());
        let anew = anew.unwrap().replace('\n', " ");
        let torn = &first[..first.len() / 2];
        let text = format!("{session}\n{skipped}\n{first}\nnot json\n\n{anew}\n{torn}");
        std::fs::write(dir.path().join(JSONL_FILE), text).unwrap();
        assert_eq!(spectra(dir.path()).collect::<Vec<_>>(), records);
        assert_eq!(spectra(Path::new("/nowhere")).count(), 0);
    }

    #[test]
    fn lines_of_another_kind_are_told_by_their_tag_alone() {
        assert!(is_other(b"{\"record\":\"tracked\",not even json\n"));
        for record in [fixture::session(0), fixture::snapshot_record(0)] {
            assert!(!is_other(&serde_json::to_vec(&record).unwrap()));
        }
        for line in ["{ \"record\":\"tracked\"}", "{\"step\":1,\"record\":\"snapshot\"}", ""] {
            assert!(!is_other(line.as_bytes()), "{line}");
        }
    }
}
