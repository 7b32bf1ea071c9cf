//! What becomes of T.

use crate::closure_host::ClosureHost;
use crate::dense::MatrixOperator;
use crate::models::{Model, mlp, transformer};
use crate::study;
use hessian_probe::config::Distribution;
use hessian_probe::config::{Difference, HvpConfig, Reorthogonalize, StepSize};
use hessian_probe::regimes::RegimesConfig;
use hessian_probe::sharded::random::RandomProbe;
use tch::{Kind, Tensor};

/// The reference's T is that of the dense Hessian, and deviations are those of the two.
#[test]
fn deviations_are_those_from_the_dense_hessians_own_run() {
    let fixed = |h| HvpConfig {
        difference: Difference::Central,
        step_size: StepSize::Absolute(h),
        ..HvpConfig::default()
    };
    let runs = vec![
        HvpConfig::default(),
        fixed(0.3),
        HvpConfig { difference: Difference::Exact, ..HvpConfig::default() },
    ];
    let config = RegimesConfig { seed: 4, steps: 10, points_per_decade: 1, runs, ..RegimesConfig::default() };
    for model in [mlp as fn(u64) -> Model, transformer] {
        let regime = study(model, 2, Kind::Double, &config);
        let dense = ClosureHost::new(model(2), Kind::Double).dense_hessian();
        let n = dense.size()[0] as usize;
        let mut signs = vec![0.0; n];
        RandomProbe::new(4, 0, Distribution::Rademacher).fill(0, &mut signs);
        let (run, _) =
            MatrixOperator::new(&dense).lanczos(&Tensor::from_slice(&signs), 10, Reorthogonalize::Full);
        let reference = &regime.reference.run;
        let scale = run.alpha.iter().chain(&run.beta).fold(0.0_f64, |most, value| most.max(value.abs()));
        let off = |own: &[f64], other: &[f64]| -> Vec<f64> {
            own.iter().zip(other).map(|(a, b)| (a - b).abs() / scale).collect()
        };
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        assert!(
            most(&off(&reference.alpha, &run.alpha)) < 1e-9 && most(&off(&reference.beta, &run.beta)) < 1e-9
        );
        let [automatic, coarse, exact] = &regime.runs[..] else { panic!() };
        for record in [automatic, coarse, exact] {
            for (found, own, other) in [
                (&record.alpha_deviation, &record.run.alpha, &run.alpha),
                (&record.beta_deviation, &record.run.beta, &run.beta),
            ] {
                assert_eq!(found.len(), 10);
                for (found, expected) in found.iter().zip(off(own, other)) {
                    assert!((found - expected).abs() < 1e-8, "{found:e} for {expected:e}");
                }
            }
            assert!(record.run.orthogonality_defect.unwrap() < 1e-12);
        }
        assert!(exact.worst_deviation() < 1e-9 && exact.run.gradients == 0, "{exact:?}");
        assert!(automatic.worst_deviation() < 0.05, "{}", automatic.worst_deviation());
        assert!(coarse.worst_deviation() > 1e-3 && coarse.run.gradients == 20);
        // Σ τθ = vᵀHv and Σ τθ² = ‖Hv‖², of the one start.
        let v = Tensor::from_slice(&signs) / (n as f64).sqrt();
        let product = dense.mv(&v);
        let (first, second) = (v.dot(&product).double_value(&[]), product.dot(&product).double_value(&[]));
        assert!((exact.first_moment.value / first - 1.0).abs() < 1e-9);
        assert!((exact.second_moment.value / second - 1.0).abs() < 1e-9);
        for compared in [coarse.first_moment, coarse.second_moment] {
            let expected = (compared.value - compared.reference) / compared.reference.abs();
            assert!((compared.deviation.unwrap() - expected).abs() < 1e-12);
        }
    }
}

#[test]
fn the_extreme_values_degrade_least() {
    let config = RegimesConfig { points_per_decade: 1, ..RegimesConfig::default() };
    for model in [mlp as fn(u64) -> Model, transformer] {
        let regime = study(model, 5, Kind::Float, &config);
        let run = &regime.runs[0];
        assert!(run.lambda_max.deviation.unwrap().abs() < 1e-2, "{:?}", run.lambda_max);
        assert!(run.second_moment.deviation.unwrap().abs() < 1e-2, "{:?}", run.second_moment);
        assert!(run.run.orthogonality_defect.unwrap() < 1e-5);
        assert!(run.worst_deviation() > 1e-7, "f32 cannot be exact");
    }
}
