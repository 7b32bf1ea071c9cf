//! The example is what users start from: it runs, in two processes, and finds what one does.

use hessian_probe::Snapshot;
use hessian_probe::log::{Record, read_jsonl};
use std::process::Command;

/// Beside the tests, where `cargo test` builds it.
fn snapshots(ranks: usize) -> Vec<Snapshot> {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/sharded");
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(&program);
    command.args(["--ranks", &ranks.to_string()]).current_dir(&directory).env_remove("RUST_LOG");
    let output = command.output().unwrap_or_else(|error| {
        panic!("{}: {error}; build it: cargo build -p hessian-probe-rusttorch --examples", program.display())
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    // One line a probe, of rank 0.
    assert_eq!(errors.lines().filter(|line| line.contains("λ_max")).count(), 5, "{errors}");
    let records = read_jsonl(directory.path().join("runs/rusttorch/snapshots.jsonl")).unwrap();
    let snapshots = records.filter_map(|record| match record.unwrap() {
        Record::Snapshot(snapshot) => Some(*snapshot),
        _ => None,
    });
    snapshots.collect()
}

#[test]
fn the_example_in_two_processes_finds_what_it_does_in_one() {
    let (one, two) = (snapshots(1), snapshots(2));
    let steps = |snapshots: &[Snapshot]| snapshots.iter().map(|snapshot| snapshot.step).collect::<Vec<_>>();
    assert_eq!((steps(&one), steps(&two)), (vec![0, 10, 20, 30, 40], vec![0, 10, 20, 30, 40]));
    for (one, two) in one.iter().zip(&two) {
        assert_eq!((one.world_size, two.world_size), (1, 2));
        assert_eq!(
            (one.parameters, two.parameters),
            (32 * 64 + 32 + 10 * 32 + 10, 32 * 64 + 32 + 10 * 32 + 10)
        );
        assert_eq!((one.tokens, two.tokens), (Some(512), Some(512)));
        // The same batches, split in two: the same training up to the rounding of f32.
        for (a, b) in [(one.loss, two.loss), (one.lambda_max.value, two.lambda_max.value)] {
            assert!((a - b).abs() < 1e-2 * a.abs(), "step {}: {a} and {b}", one.step);
        }
    }
    assert!(two[4].loss < 0.9 * two[0].loss, "{} and {}", two[0].loss, two[4].loss);
}
