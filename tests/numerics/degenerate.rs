//! Spectra that break recurrences.

use crate::closure_host::ClosureHost;
use crate::dense::MatrixOperator;
use crate::models::{Normal, quadratic};
use hessian_probe::config::Reorthogonalize::{Full, None as Off, Window};
use hessian_probe::krylov::tridiagonal::eigen;
use hessian_probe::spectrum::{ProbeRecord, Snapshot};
use hessian_probe::{HessianProbe, ProbeConfig};
use tch::{Device, Kind, Tensor};

fn diagonal(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).diag(0)
}

fn snapshot(matrix: &Tensor, kind: Kind, steps: usize) -> Snapshot {
    let n = matrix.size()[0];
    let mut host = ClosureHost::new(quadratic(matrix, &Normal::new(1).tensor(&[n], 1.0)), kind);
    let toml = format!("[slq]\nsteps = {steps}\nprobes = 2\n[log]\ntensorboard = false\njsonl = false");
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
    let snapshot = probe.probe(0, &mut host).unwrap().clone();
    let json = serde_json::to_string(&snapshot).unwrap();
    // A number that is none is a null in JSON, which no field that must be a number is read from.
    assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    snapshot
}

fn same_nodes(record: &ProbeRecord, exact: &[f64], tolerance: f64) {
    let scale = exact.iter().fold(0.0_f64, |scale, value| scale.max(value.abs()));
    assert_eq!(record.nodes.len(), exact.len(), "{record:?}");
    for (node, exact) in record.nodes.iter().zip(exact) {
        assert!((node - exact).abs() <= tolerance * scale, "{node} for {exact}");
    }
}

#[test]
fn repeated_eigenvalues_end_the_run_and_t_is_exact() {
    let matrix = diagonal(&[1.0, 1.0, 1.0, 4.0, 4.0, -2.0, -2.0, -2.0]);
    for reorthogonalize in [Full, Window(3), Off] {
        let start = Normal::new(2).tensor(&[8], 1.0);
        let (run, _) = MatrixOperator::new(&matrix).lanczos(&start, 8, reorthogonalize);
        assert_eq!(run.breakdown, Some(3), "{reorthogonalize:?}");
        let values = eigen(&run.alpha, &run.beta, &[]).unwrap().values;
        for (value, exact) in values.iter().zip([-2.0, 1.0, 4.0]) {
            assert!((value - exact).abs() < 1e-13);
        }
    }
}

/// The same by differences of gradients: what is left of products after three steps is their error.
#[test]
fn repeated_eigenvalues_end_a_probe_by_differences_as_they_do_an_exact_run() {
    let values = [1.0, 1.0, 1.0, 4.0, 4.0, -2.0, -2.0, -2.0, -2.0, 4.0];
    for (kind, tolerance) in [(Kind::Double, 1e-7), (Kind::Float, 1e-3)] {
        let snapshot = snapshot(&diagonal(&values), kind, 8);
        for record in &snapshot.probes {
            assert_eq!(record.breakdown, Some(3), "{kind:?}: {record:?}");
            same_nodes(record, &[-2.0, 1.0, 4.0], tolerance);
            // Signs have an equal part in every eigenvector: weights are multiplicities.
            for (weight, count) in record.weights.iter().zip([4.0, 3.0, 3.0]) {
                assert!((weight - count / 10.0).abs() < tolerance, "{kind:?}: {record:?}");
            }
        }
    }
}

#[test]
fn a_scaled_operator_breaks_down_at_the_same_step() {
    // A threshold that is not relative would stop the one early or the other never.
    for scale in [1e-12, 1.0, 1e12] {
        let matrix = diagonal(&[3.0, 3.0, -1.0, 0.5]) * scale;
        let (run, _) = MatrixOperator::new(&matrix).lanczos(&Normal::new(7).tensor(&[4], 1.0), 4, Full);
        assert_eq!(run.breakdown, Some(3), "{scale:e}");
    }
}

#[test]
fn the_zero_hessian_has_the_zero_spectrum() {
    for kind in [Kind::Float, Kind::Double] {
        let snapshot = snapshot(&Tensor::zeros([6, 6], (Kind::Double, Device::Cpu)), kind, 4);
        assert_eq!(snapshot.probes[0].breakdown, Some(1));
        assert_eq!((snapshot.lambda_max.value, snapshot.lambda_min.value), (0.0, 0.0));
        assert_eq!(snapshot.trace.mean, 0.0);
        assert!(snapshot.effective_rank.is_none() && snapshot.spectral_entropy.is_none());
    }
}

#[test]
fn a_rank_deficient_hessian_breaks_down_at_its_rank() {
    let mut values = vec![0.0; 30];
    values[..3].copy_from_slice(&[5.0, 2.0, -1.0]);
    for (kind, tolerance) in [(Kind::Double, 1e-7), (Kind::Float, 2e-3)] {
        let snapshot = snapshot(&diagonal(&values), kind, 20);
        // Three eigenvalues that are not zero, and zero itself.
        assert_eq!(snapshot.probes[0].breakdown, Some(4), "{kind:?}: {:?}", snapshot.probes[0]);
        assert!((snapshot.lambda_max.value - 5.0).abs() < tolerance * 5.0);
        assert!((snapshot.lambda_min.value + 1.0).abs() < tolerance * 5.0);
    }
}

#[test]
fn the_most_negative_eigenvalue_is_lambda_min_even_if_it_is_the_largest_in_magnitude() {
    let values: Vec<f64> = (0..40).map(|i| if i == 0 { -50.0 } else { i as f64 / 40.0 }).collect();
    let snapshot = snapshot(&diagonal(&values), Kind::Double, 30);
    assert!((snapshot.lambda_min.value + 50.0).abs() < 1e-5);
    assert!(snapshot.lambda_max.value > 0.9 && snapshot.lambda_max.value < 1.0);
    assert!(snapshot.stable_rank.unwrap().mean < 1.1);
}

#[test]
fn a_model_of_one_parameter_has_one_eigenvalue() {
    let snapshot = snapshot(&diagonal(&[2.5]), Kind::Double, 1);
    assert!((snapshot.lambda_max.value - 2.5).abs() < 1e-8);
    assert!((snapshot.trace.mean - 2.5).abs() < 1e-8);
}

#[test]
fn more_steps_than_dimensions_stop_at_the_dimension() {
    let matrix = diagonal(&[1.0, 2.0, 3.0]);
    let (run, _) = MatrixOperator::new(&matrix).lanczos(&Normal::new(2).tensor(&[3], 1.0), 10, Full);
    assert_eq!((run.alpha.len(), run.breakdown), (3, Some(3)));
    let values = eigen(&run.alpha, &run.beta, &[]).unwrap().values;
    for (value, exact) in values.iter().zip([1.0, 2.0, 3.0]) {
        assert!((value - exact).abs() < 1e-12);
    }
    for (kind, tolerance) in [(Kind::Double, 1e-7), (Kind::Float, 1e-3)] {
        // A probe refuses more; as many are allowed, and find that the space is exhausted.
        let snapshot = snapshot(&matrix, kind, 3);
        for record in &snapshot.probes {
            assert_eq!(record.breakdown, Some(3), "{kind:?}");
            same_nodes(record, &[1.0, 2.0, 3.0], tolerance);
        }
    }
}
