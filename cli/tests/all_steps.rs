//! As many Lanczos steps as there are parameters: the whole spectrum, against the dense Hessian.

mod common;

use common::closure_host::ClosureHost;
use common::dense::{distance, eigenvalues};
use common::llama::{Example, Shape};
use common::{Case, assert_close, text, tokens};
use hessian_probe::spectrum::PREDICTION_FACTOR;
use tch::Kind;

fn magnitude(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// The eigenvalues by double backward, ascending.
fn exact(shape: &Shape, examples: &[Example]) -> Vec<f64> {
    eigenvalues(&ClosureHost::new(shape.model(examples), Kind::Double).dense_hessian())
}

/// 1,016 parameters.
fn shape() -> Shape {
    Shape { vocabulary: 23, inner: 18, ..Shape::small(8) }
}

fn examples() -> [Example; 2] {
    [Example::new(&tokens(1, 15, 23), None), Example::new(&tokens(2, 12, 23), None)]
}

#[test]
fn more_steps_than_parameters_are_cut_to_all_of_them_with_a_note() {
    let shape =
        Shape { vocabulary: 11, hidden: 4, inner: 6, heads: 1, key_value_heads: 1, ..Shape::small(1) };
    let examples = [Example::new(&tokens(1, 14, shape.vocabulary), None)];
    let exact = exact(&shape, &examples);
    let norm = magnitude(&exact);

    let case = Case::new(&shape, &examples.map(|example| example.line()));
    let output = case.command(&["--dtype", "f64", "--steps", "5000", "--probes", "1"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let note = format!("--steps 5000 is more than the model's {} parameters", shape.parameters());
    assert!(text(&output.stderr).contains(&note), "{}", text(&output.stderr));
    let report = common::read_report(&case.path("report.json"));
    let run = &report.probes[0];
    assert!(run.alpha.len() as u64 <= shape.parameters());
    assert!(run.alpha.len() > 60, "only {} steps", run.alpha.len());
    for (&node, &weight) in run.nodes.iter().zip(&run.weights).filter(|(_, weight)| **weight > 1e-10) {
        let off = distance(node, &exact);
        assert!(off <= 1e-5 * norm, "no eigenvalue at {node} (weight {weight:e}): {off:e} off");
    }
    for &value in exact.iter().filter(|value| value.abs() > 1e-3 * norm) {
        let off = distance(value, &run.nodes);
        assert!(off <= 1e-5 * norm, "the eigenvalue {value} is not found: {off:e} off");
    }
    assert_close(report.lambda_max.value, exact[exact.len() - 1], 1e-5 * norm, "λ_max");
    assert_close(report.lambda_min.value, exact[0], 1e-5 * norm, "λ_min");
    // One probe vector gives no error, and says so.
    assert_eq!(report.trace.standard_error, None);
    assert!(text(&output.stdout).contains("one probe vector"), "{}", text(&output.stdout));
}

/// Both ways: no node with weight is off, no eigenvalue is left out.
#[test]
fn with_as_many_steps_as_parameters_every_eigenvalue_of_1_016_is_found_in_f64() {
    let exact = exact(&shape(), &examples());
    let norm = magnitude(&exact);
    let case = Case::new(&shape(), &examples().map(|example| example.line()));
    let report = case.report(&["--dtype", "f64", "--steps", "1016", "--probes", "1"]);
    assert_eq!((report.parameters, exact.len()), (1016, 1016));
    let run = &report.probes[0];
    let resolved: Vec<f64> = exact.into_iter().filter(|value| value.abs() > 1e-6 * norm).collect();
    println!("{} steps; {} of 1,016 eigenvalues are above 1e-6", run.alpha.len(), resolved.len());
    assert!(resolved.len() > 300, "a spectrum of {} values is no test", resolved.len());
    for &value in &resolved {
        let off = distance(value, &run.nodes);
        assert!(off <= 1e-5 * norm, "the eigenvalue {value} is not found: {off:e} off, of {norm}");
    }
    // Each is found once: as many nodes as eigenvalues lie above any bound that is not close to one.
    for bound in [1e-1, 1e-2, 1e-3].map(|share| share * norm) {
        let count = |values: &[f64]| values.iter().filter(|value| value.abs() > bound).count();
        assert_eq!(count(&run.nodes), count(&resolved), "above {bound}, of {norm}");
    }
}

/// What f32 cannot tell, the residuals say.
#[test]
fn in_f32_the_whole_spectrum_is_found_within_what_the_residuals_say() {
    let exact = exact(&shape(), &examples());
    let case = Case::new(&shape(), &examples().map(|example| example.line()));
    let report = case.report(&["--steps", "1016", "--probes", "1"]);
    let norm = magnitude(&exact);
    for (found, exact) in [(report.lambda_max, exact[exact.len() - 1]), (report.lambda_min, exact[0])] {
        assert_close(found.value, exact, found.residual, "an extreme");
        assert!(found.residual < 1e-2 * norm, "a residual that says something: {found:?}, of {norm}");
    }
    let run = &report.probes[0];
    println!("{} steps", run.alpha.len());
    let mut worst = 0.0_f64;
    for (k, &node) in run.nodes.iter().enumerate().filter(|(k, _)| run.weights[*k] > 1e-6) {
        let (off, allowed) =
            (distance(node, &exact), run.residuals[k] + PREDICTION_FACTOR * run.hvp_errors[k]);
        worst = worst.max(off / allowed);
        assert!(off <= allowed, "no eigenvalue at {node}: {off:e} off, {allowed:e} said");
    }
    println!("the worst is at {worst} of its residual");
}
