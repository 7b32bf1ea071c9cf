//! `snapshots.jsonl` and reports: what `hessian-probe show` reads.
#![no_main]

#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../cli/src/number.rs"]
mod number;
#[allow(dead_code, unused_imports, reason = "the program uses all of it")]
#[path = "../../cli/src/summary/mod.rs"]
mod summary;
#[allow(dead_code, reason = "the program uses all of it")]
#[path = "../../cli/src/table.rs"]
mod table;

use hessian_probe::Snapshot;
use hessian_probe::log::{JSONL_FILE, JsonlSink, Record, Sink, drop_orphans, read_jsonl};
use hessian_probe_fuzz::scratch;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(scratch::directory);

fuzz_target!(|bytes: &[u8]| {
    let path = DIRECTORY.join(JSONL_FILE);
    scratch::write(&path, bytes);
    let mut records = Vec::new();
    for record in read_jsonl(&path).expect("the file is there") {
        match record {
            Ok(record) => records.push(record),
            Err(error) => scratch::assert_names(&error, &path),
        }
    }
    if let Ok(snapshot) = serde_json::from_slice::<Snapshot>(bytes) {
        records.push(Record::Snapshot(Box::new(snapshot)));
    }
    assert!(drop_orphans(records.clone()).len() <= records.len());
    for record in &records {
        if let Record::Snapshot(snapshot) = record {
            assert!(summary::Summary(snapshot).to_string().lines().count() > 5);
        }
    }

    let again = DIRECTORY.join("again");
    scratch::clear(&again);
    let mut sink = JsonlSink::open(&again).expect("a log");
    records.iter().for_each(|record| sink.write(record).expect("a line"));
    let read: Vec<_> =
        read_jsonl(again.join(JSONL_FILE)).expect("a log").map(|it| it.expect("a record")).collect();
    assert_eq!(read, records);
});
