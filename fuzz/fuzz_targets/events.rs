//! TensorBoard's event files: whatever is in a record, what is written can be read. The reader is a second one.
#![no_main]

use hessian_probe::log::tensorboard::TensorBoardSink;
use hessian_probe::log::{Record, Sink};
use hessian_probe_fuzz::{scratch, tfrecord};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| scratch::directory().join("events"));

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.split(|&byte| byte == b'\n');
    let records: Vec<Record> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    if records.is_empty() {
        return;
    }
    scratch::clear(&DIRECTORY);
    let mut sink = TensorBoardSink::create(&DIRECTORY, None).expect("an event file").with_plots();
    records.iter().for_each(|record| sink.write(record).expect("events"));
    sink.finish().expect("a file");
    let file = fs::read(sink.path()).expect("an event file");
    let events = tfrecord::records(&file);
    assert!(events.len() > records.len(), "the version of the file, and at least one each");
    events.into_iter().for_each(tfrecord::check_event);
});
