//! What a probe says of itself where it is not to be trusted.

mod common;

use common::{line, program, read_report, text, tokens};
use std::path::Path;

/// A saved model whose weights are bf16: in bf16 a probe warns, and in f32, at the same parameters, it does not.
#[test]
fn a_probe_in_pure_bf16_warns_that_it_is_outside_the_trustworthy_regime() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hooks/fsdp/tests/fixtures/llama");
    let directory = tempfile::tempdir().unwrap();
    let (data, report) = (directory.path().join("data.jsonl"), directory.path().join("report.json"));
    let lines: Vec<String> = (1..5).map(|seed| line(&tokens(seed, 12, 64), None)).collect();
    std::fs::write(&data, lines.join("\n")).unwrap();
    let warnings = |dtype: &str| {
        let mut command = program();
        command.arg("spectrum").arg("--model").arg(&model).arg("--data").arg(&data);
        let output =
            command.arg("--out").arg(&report).args(["--dtype", dtype, "--steps", "12"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        read_report(&report).warnings
    };
    let narrow = warnings("bf16");
    assert!(narrow.iter().any(|warning| warning.contains("outside the trustworthy regime")), "{narrow:?}");
    let wide = warnings("f32");
    assert!(!wide.iter().any(|warning| warning.contains("trustworthy regime")), "{wide:?}");
}
