//! What `show` tells of the optimizer's view.

#[path = "common/mod.rs"]
mod common;
#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "blocks are not shown here")]
mod support;

use hessian_probe::config::SpectrumOf;
use hessian_probe::optimizer::Stability;
use hessian_probe::{OptimizerKind, Snapshot};

fn shown(snapshot: &Snapshot) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    std::fs::write(&file, serde_json::to_string(snapshot).unwrap()).unwrap();
    let output = common::program().arg("show").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn line<'a>(shown: &'a str, name: &str) -> &'a str {
    let found: Vec<&str> = shown.lines().filter(|line| line.starts_with(name)).collect();
    let [line] = found[..] else { panic!("{name}: {found:?} in\n{shown}") };
    line
}

#[test]
fn a_margin_says_whether_the_learning_rate_is_stable_and_what_it_is_measured_by() {
    let plain = support::snapshot(3, 1_000_000, 2);
    assert!(!shown(&plain).contains("margin"));

    let snapshot = support::with_optimizer(support::snapshot(3, 246_000_000, 2));
    let text = shown(&snapshot);
    let margin = line(&text, "margin");
    for part in ["0.552646", "preconditioned λ_max", "3799.90", "adamw", "0.0100", "500 steps", ": stable"] {
        assert!(margin.contains(part), "{part}: {margin}");
    }
    let preconditioned = line(&text, "preconditioned");
    assert!(
        preconditioned.contains("λ_max 2100.00 ± 0.7") && preconditioned.contains("λ_min -310.000"),
        "{text}"
    );
    assert!(line(&text, "moved").contains("123000000 parameters, 50.0 %"), "{text}");
    assert!(line(&text, "along gradient").contains("12.5 ± 0.250"), "{text}");
    let change = line(&text, "loss along it");
    assert!(change.contains("-0.0420 by the quadratic model, -0.0410 measured"), "{change}");
    // The spectrum of one operator must not pass for that of the other.
    assert!(!text.contains("as the optimizer sees"));
    let alone = Snapshot { operator: SpectrumOf::Preconditioned, ..snapshot };
    assert!(line(&shown(&alone), "spectrum").contains("as the optimizer sees"));
}

#[test]
fn of_an_optimizer_without_preconditioner_the_margin_is_that_of_the_hessian() {
    let sgd = OptimizerKind::Sgd { momentum: 0.9, dampening: 0.0, nesterov: false };
    let snapshot = support::snapshot(3, 1_000_000, 2);
    let threshold = sgd.threshold(0.2, 0.0, None);
    let stability = |margin: Option<f64>, threshold| {
        let optimizer = sgd.name().into();
        Some(Stability { optimizer, learning_rate: 0.2, steps: 7, threshold, margin })
    };
    let largest = snapshot.lambda_max.value;
    let unstable = Snapshot {
        stability: stability(threshold.map(|threshold| largest / threshold), threshold),
        ..snapshot.clone()
    };
    let text = shown(&unstable);
    let margin = line(&text, "margin");
    assert!(margin.contains("= λ_max / 19.0000") && margin.ends_with("unstable"), "{margin}");
    let none = Snapshot { stability: stability(None, None), ..snapshot };
    assert!(line(&shown(&none), "margin").contains("none"));
}
