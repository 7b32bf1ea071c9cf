//! The report as others read it: by the names of its fields.

mod common;

use common::llama::{Example, Shape};
use common::{Case, tokens};
use serde_json::Value;

fn report(case: &Case, flags: &[&str]) -> Value {
    let output = case.command(flags).output().unwrap();
    assert!(output.status.success(), "{}", common::text(&output.stderr));
    serde_json::from_slice(&std::fs::read(case.path("report.json")).unwrap()).unwrap()
}

/// The numbers at these paths, of which none may be missing.
#[track_caller]
fn numbers<const N: usize>(value: &Value, paths: [&str; N]) -> [f64; N] {
    paths.map(|path| {
        let found = value.pointer(path).unwrap_or_else(|| panic!("there is no {path}: {value}"));
        found.as_f64().unwrap_or_else(|| panic!("{path} is {found}"))
    })
}

#[track_caller]
fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).unwrap_or_else(|| panic!("no list {path}: {value}"))
}

fn case() -> (Shape, Case) {
    let shape = Shape { layers: 2, ..Shape::small(4) };
    let line = Example::new(&tokens(1, 9, shape.vocabulary), None).line();
    let case = Case::new(&shape, &[line]);
    (shape, case)
}

#[test]
fn the_report_has_the_fields_of_the_design() {
    let (shape, case) = case();
    let flags = ["--dtype", "f64", "--steps", "5", "--probes", "3", "--seed", "9", "--blocks", "layer"];
    let report = report(&case, &flags);
    let whole = ["/version", "/parameters", "/tokens", "/seed", "/world_size"];
    assert_eq!(numbers(&report, whole), [1.0, shape.parameters() as f64, 8.0, 9.0, 1.0]);
    let sizes = numbers(&report, ["/loss", "/gradient_norm", "/parameter_norm"]);
    assert!(sizes.iter().all(|&size| size > 0.0), "{sizes:?}");

    let [max, min] = numbers(&report, ["/lambda_max/value", "/lambda_min/value"]);
    let residuals = numbers(&report, ["/lambda_max/residual", "/lambda_min/residual"]);
    assert!(max > min && residuals.iter().all(|&residual| residual > 0.0), "{max} {min} {residuals:?}");
    for estimate in ["trace", "mean_eigenvalue", "frobenius_norm", "negative_share", "effective_rank"] {
        let paths = [format!("/{estimate}/mean"), format!("/{estimate}/standard_error")];
        let [_, error] = numbers(&report, [&paths[0], &paths[1]]);
        assert!(error >= 0.0, "{estimate}: {error}");
    }
    numbers(&report, ["/unresolved/floor", "/unresolved/mass/mean"]);

    let runs = list(&report, "/probes");
    assert_eq!(runs.len(), 3);
    for run in runs {
        let [alpha, beta, nodes, weights, residuals] =
            ["/alpha", "/beta", "/nodes", "/weights", "/residuals"].map(|path| list(run, path));
        let lengths = [alpha, beta, nodes, weights, residuals].map(<[Value]>::len);
        assert_eq!(lengths, [5; 5]);
        let sum: f64 = weights.iter().map(|weight| weight.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        let trace = |values: &[Value]| values.iter().map(|value| value.as_f64().unwrap()).sum::<f64>();
        assert!((trace(alpha) - trace(nodes)).abs() < 1e-9 * max.abs().max(min.abs()));
        let [defect] = numbers(run, ["/orthogonality_defect"]);
        assert!((0.0..1e-10).contains(&defect), "{defect:e}");
    }

    let [forward, central, low, high, median, worst, parity, noise] = numbers(
        &report,
        [
            "/hvp/forward",
            "/hvp/central",
            "/hvp/step_min",
            "/hvp/step_max",
            "/hvp/predicted_error_median",
            "/hvp/predicted_error_worst",
            "/hvp/parity_median",
            "/hvp/gradient_noise",
        ],
    );
    assert!(forward + central >= 15.0 && 0.0 < low && low <= high, "{forward} {central} {low} {high}");
    assert!(0.0 < median && median <= worst && parity > 0.0 && noise > 0.0, "{median} {worst}");

    for estimate in ["relative_error", "cosine", "off_diagonal_share"] {
        let path = format!("/block_diagonal/{estimate}");
        numbers(&report, [&format!("{path}/mean"), &format!("{path}/standard_error")]);
        if estimate != "off_diagonal_share" {
            numbers(&report, [&format!("/block_diagonal/gradient/{estimate}/mean")]);
        }
    }
    let blocks = list(&report, "/block_diagonal/blocks");
    let names: Vec<_> = blocks.iter().map(|block| block["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"layers.0") && names.contains(&"layers.1"), "{names:?}");
    for block in blocks {
        let [own, ..] = numbers(
            block,
            [
                "/parameters",
                "/trace/mean",
                "/trace/standard_error",
                "/frobenius_norm/mean",
                "/share/mean",
                "/lambda_max/value",
                "/lambda_max/residual",
                "/lambda_min/value",
            ],
        );
        assert!(own > 0.0);
    }

    let [seconds, gradients, basis, vectors] =
        numbers(&report, ["/cost/seconds", "/cost/gradients", "/cost/basis_bytes", "/cost/vector_bytes"]);
    assert!(seconds > 0.0 && gradients > 15.0 && basis > 0.0 && vectors > 0.0);
    assert!(report["cost"].get("peak_memory_bytes").is_some());
}

#[test]
fn what_was_not_measured_is_null_or_left_out_and_never_a_number() {
    let (_, case) = case();
    let report = report(&case, &["--dtype", "f64", "--steps", "5", "--probes", "1", "--blocks", "none"]);
    for estimate in ["trace", "frobenius_norm"] {
        assert!(report[estimate]["mean"].is_number() && report[estimate]["standard_error"].is_null());
    }
    assert!(report.get("block_diagonal").is_none() && report.get("warnings").is_none(), "{report}");
}
