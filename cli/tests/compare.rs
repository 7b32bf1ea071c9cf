//! `hessian-probe compare`, and `show` of logs.

mod common;
#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "not all of it is compared")]
mod support;

use common::{program, text};
use hessian_probe::Snapshot;
use hessian_probe::config::SpectrumOf;
use hessian_probe::log::{JSONL_FILE, Record, Session};
use hessian_probe::spectrum::Estimate;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;

fn snapshot(step: u64) -> Snapshot {
    Snapshot { warnings: Vec::new(), ..support::snapshot(step, 1_000_000, 3) }
}

fn write(path: &Path, snapshot: &Snapshot) -> String {
    fs::write(path, serde_json::to_string(snapshot).unwrap()).unwrap();
    path.display().to_string()
}

fn compare(arguments: &[&str]) -> Output {
    program().arg("compare").args(arguments).output().unwrap()
}

fn table(arguments: &[&str]) -> String {
    let output = compare(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&table(&[arguments, &["--json"]].concat())).unwrap()
}

fn quantity<'a>(found: &'a Value, name: &str) -> &'a Value {
    found["quantities"].as_array().unwrap().iter().find(|quantity| quantity["name"] == name).unwrap()
}

#[test]
fn differences_come_with_their_significance() {
    let directory = tempfile::tempdir().unwrap();
    let (mut a, mut b) = (snapshot(0), snapshot(0));
    a.trace = Estimate { mean: 100.0, standard_error: Some(3.0) };
    b.trace = Estimate { mean: 130.0, standard_error: Some(4.0) };
    a.frobenius_norm = Estimate { mean: 10.0, standard_error: Some(3.0) };
    b.frobenius_norm = Estimate { mean: 20.0, standard_error: Some(4.0) };
    b.mean_eigenvalue.standard_error = None;
    b.lambda_max.value = a.lambda_max.value + 3.0 * (a.lambda_max.residual + b.lambda_max.residual);
    b.stable_rank = None;
    a.block_diagonal = Some(support::block_diagonal());
    b.block_diagonal = Some(support::block_diagonal());
    b.block_diagonal.as_mut().unwrap().blocks[0].trace.mean += 100.0;
    b.block_diagonal.as_mut().unwrap().blocks[1].name = "another".into();
    let paths = ["a.json", "b.json"].map(|name| directory.path().join(name));
    let [a, b] = [write(&paths[0], &a), write(&paths[1], &b)];
    let found = json(&[&a, &b]);
    let trace = quantity(&found, "trace");
    assert_eq!((trace["difference"].as_f64(), trace["error"].as_f64()), (Some(30.0), Some(5.0)));
    assert_eq!((trace["ratio"].as_f64(), &trace["verdict"]), (Some(6.0), &"differs".into()));
    // Welch's 3.7 degrees of freedom, rounded down to 3.
    assert_eq!(trace["critical"], 3.182);
    assert_eq!(quantity(&found, "‖H‖_F")["verdict"], "within_errors");
    assert_eq!(quantity(&found, "mean eigenvalue")["verdict"], "no_error_known");
    assert_eq!(quantity(&found, "stable rank")["verdict"], "missing");
    assert_eq!(quantity(&found, "λ_min")["verdict"], "within_errors");
    let largest = quantity(&found, "λ_max");
    assert_eq!(largest["verdict"], "differs");
    assert!((largest["ratio"].as_f64().unwrap() - 3.0).abs() < 1e-9);
    assert_eq!(quantity(&found, "loss")["difference"], 0.0);
    let blocks = found["blocks"].as_array().unwrap();
    assert!(blocks.iter().all(|quantity| quantity["block"] == "layers.0"), "{blocks:?}");
    assert_eq!(blocks[0]["verdict"], "differs");

    let shown = table(&[&a, &b]);
    let line =
        |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{shown}"));
    assert!(
        line("trace").contains("100 ± 3.00") && line("trace").contains("yes: 6.00 × its error, beyond 3.18")
    );
    assert!(line("‖H‖_F").contains("no: 2.00 × its error"), "{shown}");
    assert!(line("layers.0").contains("yes"), "{shown}");
    assert!(shown.contains("note: both saw the same random vectors (seed 42)"), "{shown}");
    assert!(shown.contains("note: 1 block(s) of A and 1 of B have no counterpart"), "{shown}");
}

#[test]
fn what_is_not_comparable_is_said_and_not_subtracted() {
    let directory = tempfile::tempdir().unwrap();
    let a = write(&directory.path().join("a.json"), &snapshot(0));
    let with = |change: &dyn Fn(&mut Snapshot)| {
        let mut b = snapshot(0);
        change(&mut b);
        write(&directory.path().join("b.json"), &b)
    };
    let larger = with(&|b| (b.parameters, b.tokens, b.seed) = (2_000_000, Some(100), 7));
    let found = json(&[&a, &larger]);
    let trace = quantity(&found, "trace");
    assert_eq!((&trace["verdict"], &trace["difference"]), (&"not_comparable".into(), &Value::Null));
    assert_ne!(quantity(&found, "mean eigenvalue")["verdict"], "not_comparable");
    let notes = found["notes"].to_string();
    for part in ["1000000 and 2000000 parameters", "means over 8192 and 100 targets", "seeds 42 and 7"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    let seen = with(&|b| b.operator = SpectrumOf::Preconditioned);
    let found = json(&[&a, &seen]);
    assert_eq!(quantity(&found, "λ_max")["verdict"], "not_comparable");
    assert!(found["notes"].to_string().contains("B's of P^(-1/2) H P^(-1/2)"));
    let coarse = with(&|b| {
        b.hvp.predicted_error_median *= 100.0;
        b.probes.iter_mut().for_each(|probe| probe.alpha.truncate(4));
        b.loss *= 1.1;
        b.warnings = vec!["outside the trustworthy regime".into()];
    });
    let shown = table(&[&a, &coarse]);
    for part in ["other precision", "23 and 4 Lanczos steps", "other data or precision", "WARNING outside"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn two_steps_of_a_log_are_compared_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let session = |start_step, steps| {
        let config = format!("[slq]\nsteps = {steps}\n[log]\ndir = \"{start_step}\"\n");
        Record::Session(Session { start_step, world_size: 1, parameters: 1, config })
    };
    let of = |step| Record::Snapshot(Box::new(snapshot(step)));
    let records = [session(0, 10), of(0), of(10), session(20, 30), of(20)];
    let lines = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n");
    fs::write(directory.path().join(JSONL_FILE), lines.collect::<String>()).unwrap();
    let log = directory.path().display().to_string();
    let shown = table(&[&format!("{log}@0"), &log]);
    assert!(shown.contains(", step 0: ") && shown.contains(", step 20: "), "{shown}");
    assert!(shown.contains("note: other settings: slq.steps 10 / 30\n"), "{shown}");
    assert!(!table(&[&format!("{log}@0"), &format!("{log}@10")]).contains("other settings"));

    for (flags, step) in [(&[][..], 20), (&["--step", "10"], 10)] {
        let output = program().arg("show").arg(&log).args(flags).output().unwrap();
        assert!(text(&output.stdout).starts_with(&format!("step             {step}\n")));
    }
    for arguments in [[&format!("{log}@5")[..], &log], [&log, "none.json"]] {
        let output = compare(&arguments);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(text(&output.stderr).lines().count(), 1);
    }
    let output = compare(&[&format!("{log}@five"), &log]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
