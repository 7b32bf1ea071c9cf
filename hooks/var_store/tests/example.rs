//! The example is what users start from: it runs, in two processes.

use hessian_probe::Snapshot;
use hessian_probe::log::{Record, read_jsonl};
use std::process::Command;

/// Beside the tests, where `cargo test` builds it.
fn snapshots(ranks: usize) -> Vec<Snapshot> {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/digits");
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(&program);
    command.args(["--ranks", &ranks.to_string()]).current_dir(&directory).env_remove("RUST_LOG");
    let output = command.output().unwrap_or_else(|error| {
        panic!("{}: {error}; build it: cargo build -p hessian-probe-var-store --examples", program.display())
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = std::fs::read_dir(directory.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    let snapshots =
        read_jsonl(log.join("snapshots.jsonl")).unwrap().filter_map(|record| match record.unwrap() {
            Record::Snapshot(snapshot) => Some(*snapshot),
            _ => None,
        });
    snapshots.collect()
}

#[test]
fn the_example_runs_in_two_processes() {
    let found = snapshots(2);
    let steps: Vec<u64> = found.iter().map(|snapshot| snapshot.step).collect();
    assert_eq!(steps, [0, 25, 50, 75, 100]);
    for snapshot in &found {
        assert_eq!((snapshot.world_size, snapshot.tokens), (2, Some(512)));
        // The convolution, batch norm without its statistics, and the output; parameters that both ranks hold count once.
        assert_eq!(snapshot.parameters, 8 * 9 + 8 + 2 * 8 + 10 * 288 + 10);
    }
    assert!(found[4].loss < 0.9 * found[0].loss, "{} and {}", found[0].loss, found[4].loss);
}
