//! `hessian-probe plan`: against probes of the same program, and what it refuses.

mod common;

use common::{program, read_report, text};
use serde_json::Value;
use std::path::Path;

const MODEL: &str = "hooks/fsdp/tests/fixtures/llama";

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn plan(flags: &str) -> Value {
    let flags = flags.split_whitespace();
    let output = program().current_dir(root()).arg("plan").args(flags).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Counts and bytes exactly; the time is of a machine that is busy with other tests.
#[test]
fn a_plan_of_a_saved_model_is_what_its_probe_takes() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("report.json");
    for ranks in ["1", "2"] {
        let probe = "--steps 9 --probes 2 --difference central --reorthogonalize 4";
        let mut command = program();
        command.current_dir(root()).args(["spectrum", "--model", MODEL, "--ranks", ranks, "--dtype", "f64"]);
        command.args(["--data", "cli/tests/data/example.jsonl", "--step-size", "relative=1e-5"]);
        let output = command.args(probe.split_whitespace()).arg("--out").arg(&out).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let cost = read_report(&out).cost;
        let gradient = cost.gradient_seconds / cost.gradients as f64;
        let distances = (cost.calibration_gradients - 5) / 6;
        let answers = plan(&format!(
            "--model {MODEL} --ranks {ranks} --tokens 18 --precision f64 --redone 0 --distances {distances} \
             --gradient-seconds {gradient} {probe}"
        ));
        let plan = &answers["answers"][0]["plan"];
        let (memory, work) = (&plan["memory"], &plan["calibrating"]);
        let bytes = |names: &[&str]| names.iter().map(|name| memory[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!(bytes(&["basis", "recent", "outliers"]), cost.basis_bytes);
        let vectors = ["saved_parameters", "live_gradients", "gradient", "work", "optional"];
        assert_eq!(bytes(&vectors), cost.vector_bytes, "{memory}");
        assert_eq!(work["gradients"], cost.gradients);
        assert_eq!(work["all_reduces"], cost.all_reduces);
        assert_eq!(work["reduced_values"], cost.reduced_values);
        let parts = plan["calibrating_seconds"].as_object().unwrap().values();
        let expected: f64 = parts.map(|seconds| seconds.as_f64().unwrap()).sum();
        let (most, least) = (cost.seconds.max(expected), cost.seconds.min(expected));
        assert!(most < 5.0 * least, "{} {expected}", cost.seconds);
    }
}

#[test]
fn models_and_ranks_are_compared_in_a_table() {
    let flags = "--tokens 4096 --flops 1e12 --bandwidth 1e10 --accelerator --memory 20GB";
    let answers = plan(&format!("--parameters 1e9,7e9 --ranks 8,16,64 {flags}"));
    let answers = answers["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 6);
    for answer in answers {
        let (n, ranks) = (answer["parameters"].as_f64().unwrap(), answer["ranks"].as_f64().unwrap());
        let gradient = answer["gradient_seconds"].as_f64().unwrap();
        // Eight operations a parameter and token; gathered twice and reduced once, in f32.
        let expected = 8.0 * n * 4096.0 / ranks / 1e12 + 12.0 * n * (1.0 - 1.0 / ranks) / 1e10;
        assert!((gradient / expected - 1.0).abs() < 1e-9, "{answer}");
        let memory = &answer["plan"]["memory"];
        assert_eq!(memory["basis"].as_f64().unwrap(), 20.0 * 4.0 * n / ranks);
    }
    let flags = "--parameters 1e9,7e9 --ranks 8 --tokens 4096 --gradient-seconds 2";
    let output = program().arg("plan").args(flags.split(' ')).output().unwrap();
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().take_while(|line| !line.is_empty()).count(), 3, "{printed}");
    assert!(printed.contains("\nassumed\n- parameters"), "{printed}");
}

#[test]
fn what_cannot_be_planned_is_said_on_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let machine = directory.path().join("machine.json");
    std::fs::write(&machine, "{\"drawn\": 1}").unwrap();
    let machine = machine.display();
    for (flags, code, told) in [
        ("--parameters 0 --tokens 1 --gradient-seconds 1".to_owned(), 2, "at least 1"),
        ("--parameters 9 --ranks 0 --tokens 1 --gradient-seconds 1".into(), 2, "at least 1"),
        ("--parameters 1e30 --tokens 1 --gradient-seconds 1".into(), 2, "2^64"),
        ("--parameters 9 --tokens 1".into(), 2, "--gradient-seconds"),
        ("--tokens 1 --gradient-seconds 1".into(), 2, "--model"),
        ("--parameters 9 --tokens 1 --flops 1e9".into(), 2, "--bandwidth"),
        ("--parameters 1e19 --tokens 1 --gradient-seconds 1".into(), 1, "2^60"),
        ("--parameters 1e18 --tokens 1 --gradient-seconds 1 --steps 1000000".into(), 1, "64 bits"),
        ("--parameters 9 --tokens 1 --gradient-seconds 1 --steps 99999999".into(), 1, "slq.steps"),
        ("--parameters 9 --tokens 1 --gradient-seconds nan".into(), 1, "gradient_seconds"),
        ("--parameters 9 --tokens 1 --flops 0 --bandwidth 1".into(), 1, "plan.flops"),
        ("--parameters 9 --tokens 1 --gradient-seconds 1 --redone 2".into(), 1, "plan.redone"),
        ("--parameters 9 --tokens 1 --gradient-seconds 1 --memory-bandwidth 0".into(), 1, "memory_bandwidth"),
        (format!("--parameters 9 --tokens 1 --gradient-seconds 1 --machine {machine}"), 1, "machine.json: "),
        ("--model nowhere --tokens 1 --gradient-seconds 1".into(), 1, "nowhere"),
        (
            "--parameters 9 --ranks 4294967296 --tokens 1 --gradient-seconds 1 --micro-batches 18446744073709551615".into(),
            1,
            "2^30",
        ),
    ] {
        let output = program().arg("plan").args(flags.split_whitespace()).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{flags}: {message}");
        assert!(message.starts_with("error: ") && message.contains(told), "{flags}: {message}");
        assert!(code == 2 || message.lines().count() == 1, "{flags}: {message}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn more_threads_than_there_can_be_are_planned_with() {
    let flags = "--parameters 1e6 --tokens 100 --gradient-seconds 1 --threads 562949953421312";
    assert_eq!(plan(flags)["answers"][0]["facts"]["piece"], 1_000_000);
}
