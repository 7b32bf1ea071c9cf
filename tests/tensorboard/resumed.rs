//! Logs of runs that were interrupted.

use crate::expected::bits;
use crate::support;
use crate::{PARAMETERS, read_events, session, skipped, snapshot, snapshots, value, write};
use hessian_probe::log::tensorboard::SymlogAxis;
use hessian_probe::log::{JSONL_FILE, Record, drop_orphans, read_jsonl};
use serde_json::Value;
use std::io::Write;

#[test]
fn a_resumed_run_shows_each_step_once_even_after_a_crash_amid_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let interrupted = [session(0), snapshot(0), snapshot(10), skipped(20), snapshot(30), snapshot(40)];
    write(dir.path(), &interrupted);
    // The process died while it wrote the next record to either file.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let mut file = std::fs::OpenOptions::new().append(true).open(entry.unwrap().path()).unwrap();
        file.write_all(b"{\"record\":\"snap").unwrap();
    }
    let mut wider = support::snapshot(20, PARAMETERS, 3);
    wider.lambda_max.value *= 1000.0;
    wider.loss = 123.0;
    let resumed = [session(20), Record::Snapshot(Box::new(wider)), snapshot(30)];
    write(dir.path(), &resumed);

    let read = read_events(dir.path());
    let files = read["files"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!(files.iter().map(|file| &file["torn"]).collect::<Vec<_>>(), [true, false]);
    assert_eq!(files[0]["records"].as_u64(), Some(8));
    assert_eq!(files[1]["records"].as_u64(), Some(5));

    let tensors = &read["run"]["tensors"];
    let series = |tag: &str| -> Vec<(u64, Value)> {
        tensors[tag]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| (point[0].as_u64().unwrap(), point[1].clone()))
            .collect()
    };
    let losses: Vec<(u64, u64)> =
        series("curvature/loss").iter().map(|(step, loss)| (*step, bits(loss.as_f64().unwrap()))).collect();
    let expected: Vec<(u64, u64)> = [&interrupted[1..3], &resumed[1..]]
        .concat()
        .iter()
        .flat_map(|record| {
            snapshots(std::slice::from_ref(record)).map(|s| (s.step, bits(s.loss))).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(losses, expected, "steps from 20 on are the resumed run's");
    let steps = |tag| series(tag).iter().map(|point| point.0).collect::<Vec<_>>();
    assert_eq!(steps("spectrum/density"), [0, 10, 20, 30]);
    assert_eq!(steps("spectrum/density_plot"), [0, 10, 20, 30]);
    assert_eq!(
        steps("spectrum/heat_map"),
        [10, 20, 30],
        "two steps make a map, those of sessions before included"
    );
    assert_eq!(steps("probe/config"), [0, 20]);
    assert_eq!(steps("probe/skipped"), [0; 0], "the probe that failed at step 20 was done again");

    // JSON lines tell the same story.
    let records: Vec<Record> = read_jsonl(dir.path().join(JSONL_FILE)).unwrap().map(Result::unwrap).collect();
    assert_eq!(records, [&interrupted[..], &resumed[..]].concat());
    let kept: Vec<u64> = snapshots(&drop_orphans(records)).map(|snapshot| snapshot.step).collect();
    assert_eq!(kept, [0, 10, 20, 30]);

    // Both sessions drew their histograms on the axis of the first snapshot.
    let axis = SymlogAxis::of_snapshot(snapshots(&interrupted).next().unwrap()).unwrap();
    let description =
        |event: &Value| value(event["values"].as_array().unwrap(), "spectrum/density")["description"].clone();
    let (first, second) = (description(&files[0]["events"][3]), description(&files[1]["events"][3]));
    assert_eq!(first, second);
    assert!(first.as_str().unwrap().contains(&format!("{:e}", axis.threshold())));
}
