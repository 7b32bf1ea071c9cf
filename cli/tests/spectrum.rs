//! What the program finds, against double backward through a model that shares nothing with it.

mod common;

use common::closure_host::ClosureHost;
use common::dense::eigenvalues;
use common::llama::{Example, Shape, targets};
use common::{Case, assert_close, text, tokens};
use nalgebra::{DMatrix, SymmetricEigen};
use tch::{Kind, Tensor};

fn lines(examples: &[Example]) -> Vec<String> {
    examples.iter().map(Example::line).collect()
}

#[test]
fn an_indefinite_hessian_is_found_as_double_backward_has_it() {
    let shape = Shape::small(4);
    let labels: Vec<i64> = tokens(3, 6, shape.vocabulary).iter().map(|token| 28 - token).collect();
    let examples = [
        Example::new(&tokens(1, 11, shape.vocabulary), None),
        Example::new(&tokens(2, 6, shape.vocabulary), Some(&labels)),
    ];
    let oracle = ClosureHost::new(shape.model(&examples), Kind::Double);
    let dense = oracle.dense_hessian();
    let exact = eigenvalues(&dense);
    let (min, max) = (exact[0], exact[exact.len() - 1]);
    assert!(
        min < 0.0 && max > 0.0 && -min > max,
        "the most negative is the largest in magnitude: {min}, {max}"
    );

    let case = Case::new(&shape, &lines(&examples));
    let report = case.report(&["--dtype", "f64", "--steps", "60", "--probes", "8", "--seed", "5"]);
    assert_eq!(report.parameters, shape.parameters());
    assert_eq!(report.tokens, Some(targets(&examples) as u64));
    let (loss, gradients) = oracle.graph(false);
    let gradient_norm = gradients.iter().map(|g| g.square().sum(None).double_value(&[])).sum::<f64>().sqrt();
    let loss = loss.double_value(&[]);
    assert_close(report.loss, loss, 1e-13 * loss, "the loss");
    assert_close(report.gradient_norm, gradient_norm, 1e-12 * gradient_norm, "the gradient's norm");
    assert_close(report.lambda_max.value, max, 1e-5 * max, "λ_max");
    assert_close(report.lambda_min.value, min, 1e-5 * -min, "λ_min");
    for (found, exact) in [(report.lambda_max, max), (report.lambda_min, min)] {
        assert_close(found.value, exact, found.residual, "within the residual");
    }
    let trace = dense.trace().double_value(&[]);
    assert_close(report.trace.mean, trace, 3.0 * report.trace.standard_error.unwrap(), "the trace");
    let frobenius = dense.square().sum(None).double_value(&[]).sqrt();
    let found = report.frobenius_norm;
    assert_close(found.mean, frobenius, 3.0 * found.standard_error.unwrap(), "‖H‖_F");
    assert!(found.standard_error.unwrap() < 0.2 * frobenius, "an error that says something: {found:?}");
}

/// The extreme Ritz values after `steps` steps from a Gaussian start, of exact products and with the whole basis
/// orthogonalised twice; and the larger of their residuals.
fn long_lanczos(oracle: &ClosureHost, steps: usize) -> (f64, f64, f64) {
    let n = oracle.flat().numel() as i64;
    let start = common::models::Normal::new(99).tensor(&[n], 1.0);
    let mut basis = vec![&start / start.norm()];
    let (mut alpha, mut beta) = (Vec::new(), Vec::new());
    for j in 0..steps {
        let mut w = oracle.exact_product(&basis[j]);
        alpha.push(w.dot(&basis[j]).double_value(&[]));
        let q = Tensor::stack(&basis, 0);
        for _ in 0..2 {
            w -= q.tr().mv(&q.mv(&w));
        }
        beta.push(w.norm().double_value(&[]));
        basis.push(w / beta[j]);
    }
    let mut t = DMatrix::zeros(steps, steps);
    for j in 0..steps {
        t[(j, j)] = alpha[j];
        if j + 1 < steps {
            (t[(j, j + 1)], t[(j + 1, j)]) = (beta[j], beta[j]);
        }
    }
    let eigen = SymmetricEigen::new(t);
    let residual = |index: usize| (beta[steps - 1] * eigen.eigenvectors[(steps - 1, index)]).abs();
    let (low, high) = (eigen.eigenvalues.argmin().0, eigen.eigenvalues.argmax().0);
    (eigen.eigenvalues[low], eigen.eigenvalues[high], residual(low).max(residual(high)))
}

/// Means and their standard errors, over `count` Gaussian vectors v, of vᵀHv, which estimates the trace, and of ‖Hv‖²,
/// which estimates ‖H‖_F²; by exact products.
fn hutchinson(oracle: &ClosureHost, count: usize) -> [(f64, f64); 2] {
    let n = oracle.flat().numel() as i64;
    let mut normal = common::models::Normal::new(123);
    let draws: Vec<[f64; 2]> = (0..count)
        .map(|_| {
            let v = normal.tensor(&[n], 1.0);
            let product = oracle.exact_product(&v);
            [product.dot(&v).double_value(&[]), product.dot(&product).double_value(&[])]
        })
        .collect();
    std::array::from_fn(|k| {
        let mean = draws.iter().map(|draw| draw[k]).sum::<f64>() / count as f64;
        let squares = draws.iter().map(|draw| (draw[k] - mean).powi(2)).sum::<f64>();
        (mean, (squares / (count * (count - 1)) as f64).sqrt())
    })
}

#[test]
fn extremes_trace_and_norm_of_a_larger_model_are_those_of_exact_products() {
    let shape = Shape {
        vocabulary: 512,
        hidden: 128,
        inner: 384,
        layers: 4,
        heads: 4,
        key_value_heads: 2,
        tied: true,
        std: 0.05,
        head_std: 0.05,
        ..Shape::small(7)
    };
    assert!(shape.parameters() > 800_000);
    let examples =
        [Example::new(&tokens(1, 9, shape.vocabulary), None), Example::new(&tokens(2, 7, 512), None)];
    let oracle = ClosureHost::new(shape.model(&examples), Kind::Double);
    let (min, max, residual) = long_lanczos(&oracle, 56);
    assert!(residual < 1e-7 * max.max(-min), "the reference has converged: {residual:e} of {max}, {min}");

    let case = Case::new(&shape, &lines(&examples));
    let report = case.report(&["--dtype", "f64", "--steps", "56", "--probes", "1", "--ranks", "2"]);
    assert_eq!((report.parameters, report.world_size), (shape.parameters(), 2));
    assert_close(report.lambda_max.value, max, 1e-5 * max, "λ_max");
    assert_close(report.lambda_min.value, min, 1e-5 * -min, "λ_min");

    // Two steps make the first two moments exact for each vector; other vectors than the reference's.
    let probes = 16;
    let [(trace, trace_error), (square, square_error)] = hutchinson(&oracle, 48);
    let flags = ["--dtype", "f64", "--steps", "2", "--probes", &probes.to_string(), "--ranks", "2"];
    let report = case.report(&flags);
    let (found, error) = (report.trace.mean, report.trace.standard_error.unwrap());
    assert_close(found, trace, 3.0 * error.hypot(trace_error), "the trace");
    // The variance of vᵀHv over signs is at most 2 ‖H‖_F²; most of H is off its diagonal.
    let largest = (2.0 * square / f64::from(probes)).sqrt();
    assert!(
        (0.3 * largest..2.0 * largest).contains(&error),
        "an error that says something: {error} {largest}"
    );
    let (found, error) = (report.frobenius_norm.mean, report.frobenius_norm.standard_error.unwrap());
    let norm_error = square_error / (2.0 * square.sqrt());
    assert_close(found, square.sqrt(), 3.0 * error.hypot(norm_error), "‖H‖_F");
    assert!(error < 0.2 * found, "an error that says something: {error}");
}

#[test]
fn bf16_runs_and_says_everywhere_that_it_is_outside_the_trustworthy_regime() {
    let shape = Shape::small(6);
    let case = Case::new(&shape, &lines(&[Example::new(&tokens(1, 12, shape.vocabulary), None)]));
    let output = case.command(&["--dtype", "bf16", "--steps", "6"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = common::read_report(&case.path("report.json"));
    let reason = "outside the trustworthy regime";
    assert!(report.warnings.iter().any(|warning| warning.contains(reason)), "{:?}", report.warnings);
    assert!(report.hvp.predicted_error_median > 0.1 && report.lambda_max.value.is_finite());
    let says = |shown: &str| shown.lines().any(|line| line.starts_with("WARNING") && line.contains(reason));
    assert!(says(&text(&output.stdout)), "{}", text(&output.stdout));
    let shown = common::program().arg("show").arg(case.path("report.json")).output().unwrap();
    assert!(says(&text(&shown.stdout)), "{}", text(&shown.stdout));
    // The same model in f64 has nothing to warn of.
    let output = case.command(&["--dtype", "f64", "--steps", "6"]).output().unwrap();
    assert!(!text(&output.stdout).contains("WARNING"), "{}", text(&output.stdout));
    assert!(common::read_report(&case.path("report.json")).warnings.is_empty());
}

#[test]
fn the_loss_is_the_mean_over_all_counted_targets_of_the_file() {
    let shape = Shape { tied: true, layers: 2, ..Shape::small(3) };
    let v = shape.vocabulary;
    let half: Vec<i64> =
        tokens(1, 12, v).into_iter().enumerate().map(|(i, t)| if i < 7 { -100 } else { t }).collect();
    let examples = [
        Example::new(&tokens(1, 12, v), Some(&half)),
        Example::new(&tokens(2, 17, v), None),
        Example::new(&tokens(3, 1, v), None),
        Example::new(&tokens(4, 2, v), Some(&[5, 7])),
        Example::new(&tokens(5, 8, v), Some(&[-100; 8])),
        // Only the first label is one, and it is nobody's target.
        Example::new(&tokens(6, 3, v), Some(&[1, -100, -100])),
        Example::new(&tokens(7, 5, v), Some(&[-100, 3, -100, -100, 0])),
    ];
    assert_eq!(targets(&examples), 5 + 16 + 1 + 2);
    let oracle = ClosureHost::new(shape.model(&examples), Kind::Double);
    let expected = oracle.graph(false).0.double_value(&[]);

    let mut all = lines(&examples);
    all.insert(2, String::new());
    all.push("   \r".into());
    let case = Case::new(&shape, &all);
    for ranks in ["1", "2"] {
        let report = case.report(&["--dtype", "f64", "--steps", "2", "--probes", "1", "--ranks", ranks]);
        assert_eq!(report.tokens, Some(24));
        assert_close(report.loss, expected, 1e-13 * expected, "the loss");
    }
    // f32 is another evaluation of the same.
    let report = case.report(&["--steps", "2", "--probes", "1"]);
    assert_close(report.loss, expected, 1e-5 * expected, "the loss in f32");
    assert_ne!(report.loss, expected);
}
