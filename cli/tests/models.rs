//! Models that others made, through the command: their losses and gradients are those of `transformers`, which
//! `hooks/fsdp/tests/fixtures/make.py` wrote down, and their reports do not depend on the number of ranks.

mod common;

use common::{assert_close, line, program, read_report, text};
use hessian_probe::Snapshot;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../hooks/fsdp/tests/fixtures")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A model, and what `transformers` says of it.
struct Fixture {
    model: PathBuf,
    tokens: Vec<Vec<i64>>,
    loss: f64,
    gradient_norm: f64,
    directory: TempDir,
}

impl Fixture {
    fn new(model: PathBuf, expected: &Value) -> Self {
        let tokens: Vec<Vec<i64>> = serde_json::from_value(expected["tokens"].clone()).unwrap();
        let gradients = expected["gradients"].as_object().unwrap().values();
        let squares = gradients.map(|gradient| gradient["norm"].as_f64().unwrap().powi(2)).sum::<f64>();
        let directory = tempfile::tempdir().unwrap();
        let lines: Vec<String> = tokens.iter().map(|row| line(row, None)).collect();
        std::fs::write(directory.path().join("data.jsonl"), lines.join("\n")).unwrap();
        let loss = expected["loss"].as_f64().unwrap();
        Self { model, tokens, loss, gradient_norm: squares.sqrt(), directory }
    }

    fn name(&self) -> &str {
        self.model.file_name().unwrap().to_str().unwrap()
    }

    fn report(&self, ranks: &str) -> Snapshot {
        let [data, out] = ["data.jsonl", "report.json"].map(|name| self.directory.path().join(name));
        let mut command = program();
        command
            .arg("spectrum")
            .arg("--model")
            .arg(&self.model)
            .arg("--data")
            .arg(data)
            .arg("--out")
            .arg(&out);
        command
            .args(["--dtype", "f64", "--steps", "4", "--probes", "1", "--blocks", "none", "--ranks", ranks]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{} on {ranks} ranks: {}", self.name(), text(&output.stderr));
        let report = read_report(&out);
        assert_eq!(report.world_size.to_string(), ranks);
        report
    }

    /// `transformers` computed in f32.
    fn assert_expected(&self, report: &Snapshot) {
        let name = self.name();
        let targets = self.tokens.iter().map(|row| row.len() - 1).sum::<usize>();
        assert_eq!(report.tokens, Some(targets as u64), "{name}");
        assert_close(report.loss, self.loss, 1e-6 * self.loss, &format!("the loss of {name}"));
        let norm = self.gradient_norm;
        assert_close(report.gradient_norm, norm, 1e-5 * norm, &format!("‖g‖ of {name}"));
    }
}

/// Directories in Hugging Face's form and GGUF files: families, biases, tied or not, rotary embeddings of every type,
/// weights in f32, f16, bf16 and every quantised type, in one file or several.
fn models() -> Vec<Fixture> {
    let mut found = Vec::new();
    for entry in fixtures().read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let expected = read(&path.join("expected.json"));
            found.push(Fixture::new(path, &expected));
        } else if path.extension().is_some_and(|extension| extension == "gguf") {
            let expected = read(&path.with_extension("expected.json"));
            found.push(Fixture::new(path, &expected));
        }
    }
    found.sort_by(|first, second| first.model.cmp(&second.model));
    assert_eq!(found.len(), 13);
    found
}

#[test]
fn every_model_of_the_fixtures_has_the_same_report_on_1_2_and_4_ranks() {
    for fixture in models() {
        let one = fixture.report("1");
        fixture.assert_expected(&one);
        let norm = one.probes[0].nodes.iter().fold(0.0_f64, |norm, node| norm.max(node.abs()));
        for ranks in ["2", "4"] {
            let other = fixture.report(ranks);
            fixture.assert_expected(&other);
            assert_eq!(other.parameters, one.parameters);
            let what = |name: &str| format!("{name} of {} on {ranks} ranks", fixture.name());
            assert_close(other.loss, one.loss, 1e-12 * one.loss, &what("the loss"));
            let (a, b) = (&one.probes[0], &other.probes[0]);
            assert_eq!((a.alpha.len(), b.alpha.len()), (4, 4));
            for j in 0..4 {
                assert_close(b.alpha[j], a.alpha[j], 1e-6 * norm, &what("α"));
                assert_close(b.beta[j], a.beta[j], 1e-6 * norm, &what("β"));
            }
        }
    }
}

/// As the directories of Llama 3 have it: `rope_theta` beside a `rope_scaling` with its `rope_type`, nothing else.
#[test]
fn llama3_in_the_old_spelling_is_the_same_model() {
    let new = fixtures().join("llama-llama3-head-dim");
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old");
    std::fs::create_dir(&old).unwrap();
    std::fs::copy(new.join("model.safetensors"), old.join("model.safetensors")).unwrap();
    let mut config = read(&new.join("config.json"));
    let keys = config.as_object_mut().unwrap();
    let mut scaling = keys.remove("rope_parameters").unwrap();
    keys.insert("rope_theta".into(), scaling.as_object_mut().unwrap().remove("rope_theta").unwrap());
    assert_eq!((&scaling["rope_type"], &scaling["factor"]), (&json!("llama3"), &json!(8.0)));
    keys.insert("rope_scaling".into(), scaling);
    std::fs::write(old.join("config.json"), config.to_string()).unwrap();
    let fixture = Fixture::new(old.clone(), &read(&new.join("expected.json")));
    fixture.assert_expected(&fixture.report("1"));

    // Without the scaling it would be another.
    config["rope_scaling"] = Value::Null;
    std::fs::write(old.join("config.json"), config.to_string()).unwrap();
    let unscaled = fixture.report("1");
    assert!((unscaled.loss - fixture.loss).abs() > 1e-3 * fixture.loss, "{} {}", unscaled.loss, fixture.loss);
}
