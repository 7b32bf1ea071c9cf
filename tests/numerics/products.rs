//! Hessian-vector products against the dense Hessian by double backward.

use crate::closure_host::ClosureHost;
use crate::models::{Model, Normal, mlp, quadratic, transformer};
use crate::trials::{directions, errors, is_foretold, random, trials};
use hessian_probe::config::{Difference, HvpConfig, StepSize};
use hessian_probe::krylov::Operator;
use hessian_probe::operator::{Calibration, FiniteDifference, Start};
use hessian_probe::sharded::Layout;
use tch::{Device, Kind, Tensor};

#[test]
fn central_products_in_f64_agree_with_double_backward_to_1e_8() {
    let config =
        HvpConfig { difference: Difference::Central, max_relative_error: 1e-9, ..HvpConfig::default() };
    for model in [mlp, transformer] {
        for direction in directions(model, 3) {
            let [(error, _)] = errors(model, 3, Kind::Double, &config, &[direction])[..] else { panic!() };
            assert!(error < 1e-8, "{error:e}");
        }
    }
}

#[test]
fn products_in_f32_agree_with_f64_double_backward_to_1e_3_on_random_vectors() {
    for model in [mlp, transformer] {
        for seed in 0..5 {
            let config = HvpConfig {
                difference: Difference::Central,
                max_relative_error: 1e-3,
                ..HvpConfig::default()
            };
            let [(error, _)] = errors(model, seed, Kind::Float, &config, &[random(model, seed)])[..] else {
                panic!()
            };
            assert!(error < 1e-3, "seed {seed}: {error:e}");
        }
    }
}

/// The rule that chooses a step must not need to be told which kind of vector it meets. It is made to
/// look for the optimum here, by a limit on the error that nothing keeps.
#[test]
fn automatic_steps_are_near_the_best_of_a_sweep() {
    let automatic =
        HvpConfig { difference: Difference::Central, max_relative_error: 1e-15, ..HvpConfig::default() };
    let error = |model, seed, kind, config: &HvpConfig, direction: &Tensor| {
        errors(model, seed, kind, config, &[direction.shallow_clone()])[0].0
    };
    for (model, seed) in [
        (mlp as fn(u64) -> Model, 1),
        (mlp, 2),
        (mlp, 3),
        (transformer, 1),
        (transformer, 2),
        (transformer, 3),
        (transformer, 4),
    ] {
        for kind in [Kind::Float, Kind::Double] {
            for (which, direction) in directions(model, seed).into_iter().enumerate() {
                let sweep = (-26..=0).map(|exponent| {
                    let step_size = StepSize::Absolute(2.0_f64.powi(exponent));
                    error(model, seed, kind, &HvpConfig { step_size, ..automatic.clone() }, &direction)
                });
                let best = sweep.fold(f64::INFINITY, f64::min);
                let chosen = error(model, seed, kind, &automatic, &direction);
                assert!(
                    chosen <= 3.0 * best,
                    "{kind:?}, seed {seed}, direction {which}: {chosen:e}, best {best:e}"
                );
            }
        }
    }
}

#[test]
fn a_relative_step_is_that_share_of_the_parameters_norm() {
    for (kind, share) in [(Kind::Float, 1e-3), (Kind::Double, 1e-5)] {
        let toml = format!(
            "[slq]\nsteps = 4\n[hvp]\nstep_size = {{ relative = {share} }}\n[log]\ntensorboard = false\njsonl = false"
        );
        let mut host = ClosureHost::new(mlp(2), kind);
        let config = hessian_probe::ProbeConfig::from_toml_str(&toml).unwrap();
        let mut probe = hessian_probe::HessianProbe::new(config).unwrap();
        let hvp = probe.probe(0, &mut host).unwrap().hvp.clone();
        let step = share * host.flat().to_kind(Kind::Double).norm().double_value(&[]);
        for found in [hvp.step_min, hvp.step_max] {
            assert!((found / step - 1.0).abs() < 1e-12, "{kind:?}: {found:e} for {step:e}");
        }
    }
}

/// Where the noise allows it, fourth order is better than second; and exact is exact.
#[test]
fn fourth_order_and_exact_products_agree_with_double_backward() {
    let config = |difference| HvpConfig { difference, max_relative_error: 1e-15, ..HvpConfig::default() };
    for model in [mlp, transformer] {
        for direction in directions(model, 3) {
            let series = [direction];
            let error = |difference| errors(model, 3, Kind::Double, &config(difference), &series)[0];
            let (fourth, predicted) = error(Difference::Central4);
            let (second, _) = error(Difference::Central);
            let (exact, _) = error(Difference::Exact);
            assert!(fourth < 1e-9 && fourth < 0.3 * second, "{fourth:e}, second order {second:e}");
            assert!(fourth < 30.0 * predicted, "{fourth:e}, predicted {predicted:e}");
            assert!(exact < 1e-13, "{exact:e}");
        }
    }
}

/// At fixed steps, so that truncation and not noise is what is compared: halving h divides the errors by
/// 2, 4 and 16.
#[test]
fn errors_go_with_the_order_of_the_difference() {
    let [direction, ..] = directions(mlp, 1);
    // Between the second order's and the fourth order's noise.
    for (difference, h, power) in [(Difference::Central, 0.02, 2), (Difference::Central4, 0.2, 4)] {
        let error = |h| {
            let config = HvpConfig { difference, step_size: StepSize::Absolute(h), ..HvpConfig::default() };
            errors(mlp, 1, Kind::Double, &config, &[direction.shallow_clone()])[0].0
        };
        let ratio = error(2.0 * h) / error(h);
        let expected = 2.0_f64.powi(power);
        assert!((ratio / expected - 1.0).abs() < 0.3, "{difference:?}: {ratio} for {expected}");
    }
}

#[test]
fn the_predicted_error_is_within_a_factor_of_5_in_at_least_45_of_50_seeds() {
    for model in [mlp as fn(u64) -> Model, transformer] {
        for kind in [Kind::Float, Kind::Double] {
            for difference in [Difference::Central, Difference::Central4] {
                let config = HvpConfig { difference, ..HvpConfig::default() };
                let good = (0..50)
                    .filter(|&seed| {
                        let (error, predicted) =
                            errors(model, seed, kind, &config, &[random(model, seed)])[0];
                        (0.2..5.0).contains(&(error / predicted))
                    })
                    .count();
                assert!(good >= 45, "{kind:?}, {difference:?}: {good} of 50");
            }
        }
    }
}

/// Masters in f32, forward and backward in bf16: the gradient's noise is ten thousand times that of f32.
#[test]
fn in_bf16_compute_the_predicted_error_is_within_a_factor_of_5_in_at_least_45_of_50_seeds() {
    let config = HvpConfig { difference: Difference::Central, ..HvpConfig::default() };
    for model in [mlp as fn(u64) -> Model, transformer] {
        let foretold = |&seed: &u64| {
            let host = ClosureHost::computing_in_bf16(model(seed));
            is_foretold(&trials(host, model(seed), &config, &[random(model, seed)]).unwrap()[0])
        };
        let good = (0..50).filter(foretold).count();
        assert!(good >= 45, "{good} of 50");
    }
}

/// Noise of a known size, which no rounding explains, is found, is said not to repeat, and enters the errors.
#[test]
fn a_gradient_that_does_not_repeat_is_found_with_its_size() {
    for size in [1e-6, 1e-3] {
        let mut host = ClosureHost::new(mlp(2), Kind::Double);
        let n: i64 = host.parameters.iter().map(|p| p.numel() as i64).sum();
        let mut draws = Normal::new(77);
        host.hook = Some(Box::new(move |_, gradient| {
            for tensor in &mut gradient.tensors {
                *tensor += draws.tensor(&tensor.size(), size / (n as f64).sqrt());
            }
            Ok(())
        }));
        let toml = "[slq]\nsteps = 4\n[log]\ntensorboard = false\njsonl = false";
        let config = hessian_probe::ProbeConfig::from_toml_str(toml).unwrap();
        let mut probe = hessian_probe::HessianProbe::new(config).unwrap();
        let hvp = probe.probe(0, &mut host).unwrap().hvp.clone();
        assert_eq!(hvp.gradient_repeats, Some(false));
        let difference = hvp.repeat_difference.unwrap() / (2.0_f64.sqrt() * size);
        assert!((0.7..1.4).contains(&difference), "{difference}");
        let noise = hvp.gradient_noise / size;
        assert!((0.5..3.0).contains(&noise), "{noise}");
        let component = hvp.component_noise.map(|sigma| sigma * (n as f64).sqrt() / size);
        assert!(component.is_none_or(|ratio| (0.1..10.0).contains(&ratio)), "{component:?}");
        assert!(hvp.asymmetry.unwrap() < 20.0 * hvp.predicted_error_worst, "{hvp:?}");
    }
}

/// What adds the gradient of no loss: Sθ with S antisymmetric, so that the operator is A + S.
#[test]
fn an_asymmetric_operator_is_told_by_its_size() {
    let n = 40;
    let square = Normal::new(21).tensor(&[n, n], 1.0);
    let symmetric = (&square + square.tr()) * 0.5;
    for (kind, share, seed) in [(Kind::Double, 1.0, 1), (Kind::Double, 0.01, 2), (Kind::Float, 0.1, 3)] {
        let skew = (&square - square.tr()) * (0.5 * share);
        let operator = &symmetric + &skew;
        let theta = Normal::new(seed).tensor(&[n], 1.0);
        let mut host = ClosureHost::new(quadratic(&symmetric, &theta), kind);
        let (parameter, skew) = (host.parameters[0].detach(), skew.to_kind(kind));
        host.hook = Some(Box::new(move |_, gradient| {
            gradient.tensors[0] += skew.mv(&parameter);
            Ok(())
        }));
        let layout = Layout::new(&host, None).unwrap();
        let (mut calibration, never) = (Calibration::default(), hessian_probe::Interrupter::default());
        let u = Normal::new(seed + 10).tensor(&[n], 1.0);
        let u = (&u / u.norm()).to_kind(kind);
        // Where the second vector is drawn.
        let (v, mut w) = (u.zeros_like(), u.zeros_like());
        let start = Start { vector: &u, spare: Some(&v) };
        let config = HvpConfig::default();
        drop(FiniteDifference::new(&mut host, &layout, &config, &mut calibration, &never, start, &mut w));
        let (u, v) = (u.to_kind(Kind::Double), v.to_kind(Kind::Double));
        let number = |tensor: Tensor| tensor.double_value(&[]);
        assert!((number(v.norm()) - 1.0).abs() < 1e-6 && number(v.dot(&u)).abs() < 0.6);
        let (au, av) = (operator.mv(&u), operator.mv(&v));
        let expected = number((u.dot(&av) - v.dot(&au)).abs() / (au.norm() * v.norm()));
        let found = calibration.asymmetry.unwrap();
        assert!((found / expected - 1.0).abs() < 0.1, "{kind:?}, share {share}: {found:e} for {expected:e}");
    }
}

#[test]
fn a_step_that_changes_no_parameter_is_an_error_that_says_so() {
    let mut host = ClosureHost::new(mlp(0), Kind::Float);
    let layout = Layout::new(&host, None).unwrap();
    let before = host.flat();
    let config = HvpConfig { step_size: StepSize::Absolute(1e-12), ..HvpConfig::default() };
    let (mut calibration, never) = (Calibration::default(), hessian_probe::Interrupter::default());
    let n = layout.local_len();
    let q = Tensor::ones([n], (Kind::Float, Device::Cpu)) / (n as f64).sqrt();
    let mut w = q.zeros_like();
    let mut operator = FiniteDifference::new(
        &mut host,
        &layout,
        &config,
        &mut calibration,
        &never,
        Start { vector: &q, spare: None },
        &mut w,
    )
    .unwrap();
    let error = operator.apply(0, &q, None, &mut w).unwrap_err().to_string();
    assert!(error.contains("hvp.step_size") && error.contains("1e-12"), "{error}");
    drop(operator);
    assert_eq!(host.flat(), before);
}
