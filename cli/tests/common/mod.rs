//! Models in Hugging Face's form, data, and the program itself; and a loss that shares nothing with it.

#![allow(dead_code, reason = "no test uses all of it")]

#[path = "../../../tests/support/closure_host.rs"]
pub mod closure_host;
#[path = "../../../tests/support/dense.rs"]
pub mod dense;
pub mod llama;
#[path = "../../../tests/support/models.rs"]
pub mod models;

use hessian_probe::Snapshot;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A directory with a model and its data, and what the program makes of them.
pub struct Case {
    pub directory: TempDir,
}

impl Case {
    /// `lines` are the lines of the data file.
    pub fn new(model: &llama::Shape, lines: &[String]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        model.write(&directory.path().join("model"));
        let case = Self { directory };
        case.write_data(lines.join("\n") + "\n");
        case
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write_data(&self, text: impl AsRef<[u8]>) {
        std::fs::write(self.path("data.jsonl"), text).unwrap();
    }

    /// `hessian-probe spectrum` with these flags besides the three that are needed.
    pub fn command(&self, flags: &[&str]) -> Command {
        let mut command = program();
        command.arg("spectrum");
        for (flag, name) in [("--model", "model"), ("--data", "data.jsonl"), ("--out", "report.json")] {
            command.arg(flag).arg(self.path(name));
        }
        command.args(flags);
        command
    }

    /// The report of a run that succeeds.
    pub fn report(&self, flags: &[&str]) -> Snapshot {
        self.report_of(self.command(flags))
    }

    pub fn report_of(&self, mut command: Command) -> Snapshot {
        let _ = std::fs::remove_file(self.path("report.json"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
        read_report(&self.path("report.json"))
    }

    /// The one line on stderr of a run that fails.
    pub fn error(&self, flags: &[&str]) -> String {
        let output = self.command(flags).output().unwrap();
        self.error_of(&output)
    }

    /// The message of a run that failed as it should: with exit code 1, one line, and no report.
    pub fn error_of(&self, output: &Output) -> String {
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.starts_with("error: "), "{message}");
        assert!(!self.path("report.json").exists(), "{message}");
        message
    }
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hessian-probe"));
    // Tests run side by side already.
    command.env("OMP_NUM_THREADS", "1").env_remove("RUST_LOG");
    for variable in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"] {
        command.env_remove(variable);
    }
    command
}

pub fn read_report(path: &Path) -> Snapshot {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A line of the data file.
pub fn line(input_ids: &[i64], labels: Option<&[i64]>) -> String {
    match labels {
        None => serde_json::json!({ "input_ids": input_ids }).to_string(),
        Some(labels) => serde_json::json!({ "input_ids": input_ids, "labels": labels }).to_string(),
    }
}

/// Tokens that repeat in no simple pattern.
pub fn tokens(seed: i64, count: i64, vocabulary: i64) -> Vec<i64> {
    (0..count).map(|i| (i * i * 5 + i * 3 + seed * 7 + i * seed) % vocabulary).collect()
}

#[track_caller]
pub fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(
        error <= tolerance,
        "{what}: {found} instead of {expected}: off by {error:e}, allowed {tolerance:e}"
    );
}
