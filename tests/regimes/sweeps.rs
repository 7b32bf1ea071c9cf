//! U-curves.

use crate::closure_host::ClosureHost;
use crate::models::{Model, Normal, mlp, quadratic, transformer};
use crate::{along, norm, reference, study, watched};
use hessian_probe::config::Distribution;
use hessian_probe::regimes::{DirectionKind, Method, Regime, RegimesConfig, sweep};
use hessian_probe::sharded::random::RandomProbe;
use tch::{Kind, Tensor};

/// The random vector of a study, by its definition.
fn random(n: usize, seed: u64) -> Tensor {
    let mut signs = vec![0.0; n];
    RandomProbe::new(seed, 0, Distribution::Rademacher).fill(0, &mut signs);
    Tensor::from_slice(&signs) / (n as f64).sqrt()
}

/// The gradient of `model`, flat, with its parameters moved by hv.
fn gradient_at(model: Model, h: f64, v: &Tensor) -> Tensor {
    let host = ClosureHost::new(model, Kind::Double);
    let mut start = 0;
    for parameter in &host.parameters {
        let count = parameter.numel() as i64;
        let piece = v.narrow(0, start, count).view(parameter.size().as_slice());
        let _ = tch::no_grad(|| parameter.shallow_clone().g_add_(&(piece * h)));
        start += count;
    }
    let (_, gradients) = host.graph(false);
    Tensor::cat(&gradients.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0)
}

#[test]
fn the_true_error_is_that_of_a_difference_taken_by_hand_against_the_dense_hessian() {
    let config = RegimesConfig { seed: 9, steps: 6, points_per_decade: 1, ..RegimesConfig::default() };
    for model in [mlp as fn(u64) -> Model, transformer] {
        let regime = study(model, 3, Kind::Double, &config);
        let dense = ClosureHost::new(model(3), Kind::Double).dense_hessian();
        let v = random(dense.size()[0] as usize, 9);
        let (exact, origin) = (dense.mv(&v), gradient_at(model(3), 0.0, &v));
        let record = along(&regime, DirectionKind::Random);
        assert!((record.norm / norm(&exact) - 1.0).abs() < 1e-12);
        assert!((record.curvature / v.dot(&exact).double_value(&[]) - 1.0).abs() < 1e-10);
        let mut compared = 0;
        for row in &record.rows {
            let h = row.step;
            let (plus, minus) = (gradient_at(model(3), h, &v), gradient_at(model(3), -h, &v));
            let error = |product: Tensor| norm(&(product - &exact)) / norm(&exact);
            let central = error((&plus - &minus) / (2.0 * h));
            let forward = error((&plus - &origin) / h);
            let (found, once) = (row.central.unwrap(), row.forward.unwrap());
            // Where noise is most of the error, other roundings of θ + hv have other noise.
            let noisy = 1e-13 / h;
            for (found, expected) in [(found.error, central), (once.error, forward)] {
                if expected > 30.0 * noisy {
                    compared += 1;
                    assert!((found / expected - 1.0).abs() < 0.1, "h = {h:e}: {found:e} for {expected:e}");
                } else {
                    assert!(found < 100.0 * noisy, "h = {h:e}: {found:e}");
                }
            }
            let (odd, even) = (norm(&(&plus - &minus)), norm(&(&plus + &minus - &origin * 2.0)));
            if h > 1e-4 {
                assert!((found.parity / (even / odd) - 1.0).abs() < 1e-3, "h = {h:e}");
            }
            assert!(
                (found.realised / h - 1.0).abs() < 1e-6 / h.min(1.0) && found.rounding < 1e-6 / h.min(1.0)
            );
        }
        assert!(compared >= 8, "{compared}");
    }
}

/// Σ aᵢxᵢ²/2 + c·xᵢ⁴/24, of which everything is known; the entries are spread out.
fn quartic(c: f64) -> (Model, Tensor, Tensor) {
    let n = 60;
    let a = Tensor::linspace(1.0, 3.0, n, (Kind::Double, tch::Device::Cpu));
    let x = Normal::new(5).tensor(&[n], 1.0) + 2.0;
    let (scale, at) = (a.shallow_clone(), x.shallow_clone());
    let loss = move |p: &[Tensor]| {
        let squared = &p[0] * &p[0];
        (&squared * &scale * 0.5 + &squared * &squared * (c / 24.0)).sum(None)
    };
    (Model { names: vec!["x".into()], parameters: vec![at], loss: Box::new(loss) }, a, x)
}

/// The noise is made, so that its size is known: the minimum of h²‖∇⁴L[v,v,v]‖/6 + η/(√2h) is where it must be.
#[test]
fn the_minimum_of_the_u_curve_is_where_the_formula_has_it() {
    let config = RegimesConfig { points_per_decade: 8, steps: 3, ..RegimesConfig::default() };
    for (c, eta) in [(1.0, 1e-6), (1.0, 1e-4), (50.0, 1e-5)] {
        let reference = reference(quartic(c).0, Kind::Double, Method::Exact, &config).unwrap();
        let mut host = ClosureHost::new(quartic(c).0, Kind::Double);
        let mut noise = Normal::new(8);
        host.hook = Some(Box::new(move |_, gradient| {
            let tensor = &mut gradient.tensors[0];
            let size = tensor.size();
            *tensor += noise.tensor(&size, eta / (tensor.numel() as f64).sqrt());
            Ok(())
        }));
        let regime = watched(|watch| sweep(&mut host, "quartic", &reference, &config, watch)).0.unwrap();
        let (_, a, x) = quartic(c);
        let v = random(x.numel(), 0);
        let fourth = c * norm(&(&v * &v * &v));
        let product = norm(&((a + &x * &x * (c / 2.0)) * &v));
        let h = (3.0 * eta / (2.0_f64.sqrt() * fourth)).cbrt();
        let error = (h * h * fourth / 6.0 + eta / (2.0_f64.sqrt() * h)) / product;
        let record = along(&regime, DirectionKind::Random);
        let best = record.best.unwrap();
        assert!((0.4..2.5).contains(&(best.step / h)), "c = {c}, η = {eta}: {best:?}, h* = {h:e}");
        // The two parts add up as vectors do, and the least of several rows is lucky.
        assert!((0.3..1.2).contains(&(best.error / error)), "c = {c}, η = {eta}: {best:?}, {error:e}");
        assert!((record.norm / product - 1.0).abs() < 1e-12);
        assert!((0.5..2.0).contains(&(regime.noise.gradient / eta)), "{:?}", regime.noise);
        assert_eq!(regime.noise.repeats, Some(false));
        // On either side of it: a line of slope −1 and one of slope 2.
        let error_at = |h: f64| {
            let nearest = |row: &&hessian_probe::regimes::SweepRow| (row.step / h).ln().abs();
            let row = record.rows.iter().min_by(|a, b| nearest(a).total_cmp(&nearest(b))).unwrap();
            row.central.unwrap().error
        };
        let (left, right) =
            (error_at(h / 1000.0) / error_at(h / 100.0), error_at(20.0 * h) / error_at(5.0 * h));
        assert!((5.0..20.0).contains(&left), "{left}");
        if 20.0 * h < 0.1 * norm(&x) {
            assert!((12.0..20.0).contains(&right), "{right}");
        }
    }
}

/// The step that is chosen must not need to be told which kind of vector it meets.
#[test]
fn automatic_choices_are_near_the_best_of_the_sweep_for_every_vector_and_type() {
    let config = RegimesConfig { steps: 12, ..RegimesConfig::default() };
    let mut ratios = Vec::new();
    for (model, seed) in [(mlp as fn(u64) -> Model, 1), (mlp, 2), (transformer, 1), (transformer, 4)] {
        for kind in [Kind::Float, Kind::Double] {
            let regime = study(model, seed, kind, &config);
            assert_eq!(regime.directions.len(), 3);
            for record in &regime.directions {
                let (automatic, configured) = (record.automatic, record.configured);
                let what = format!("{kind:?}, seed {seed}, {}", record.direction);
                let ratio = automatic.ratio.unwrap();
                ratios.push(ratio);
                assert!(ratio <= 4.0, "{what}: {automatic:?}, best {:?}", record.best);
                assert!(configured.error < 0.1, "{what}: {configured:?}");
                assert!(configured.gradients <= automatic.gradients && configured.gradients >= 2, "{what}");
            }
        }
    }
    // The least error of a sweep over a model of a hundred parameters may be luck.
    let good = ratios.iter().filter(|ratio| **ratio <= 3.0).count();
    assert!(good >= 22, "{good} of {}: {ratios:?}", ratios.len());
}

/// Errors at the bottom of a U-curve are noise for the most part, and the least of a sweep is the luckiest: the median over
/// models has no luck.
#[test]
fn by_the_median_automatic_choices_are_within_three_times_the_best() {
    let config = RegimesConfig { steps: 12, ..RegimesConfig::default() };
    for (name, model) in [("MLP", mlp as fn(u64) -> Model), ("transformer", transformer)] {
        for kind in [Kind::Float, Kind::Double] {
            let regimes = [5, 6, 7].map(|seed| study(model, seed, kind, &config));
            for direction in [DirectionKind::Random, DirectionKind::Gradient, DirectionKind::Top] {
                let ratio = |regime| along(regime, direction).automatic.ratio.unwrap();
                let mut ratios = regimes.each_ref().map(ratio);
                ratios.sort_by(f64::total_cmp);
                assert!(ratios[1] <= 3.0, "{name}, {kind:?}, {direction}: {ratios:?}");
            }
        }
    }
}

/// Masters in f32 and passes in bf16, against double backward in f64 at the rounded parameters, as `calibrate` does.
///
/// Not all are: a gradient of bf16 is a step function of few steps. Where h is some units of θ, neighbouring steps differ
/// by several times in their error for no reason that a parity ratio could show (the best of a sweep is then luck), and
/// beyond p = 0.1 the square of the parity ratio may be a fifth of the truncation error.
#[test]
fn in_bf16_compute_nine_of_ten_automatic_choices_are_within_three_times_the_best() {
    let config = RegimesConfig { steps: 12, ..RegimesConfig::default() };
    let mut all: Vec<(f64, String)> = Vec::new();
    for (name, model) in [("MLP", mlp as fn(u64) -> Model), ("transformer", transformer)] {
        let regimes: Vec<Regime> = (0..20)
            .map(|seed| {
                let reference = reference(model(seed), Kind::BFloat16, Method::Exact, &config).unwrap();
                let mut host = ClosureHost::computing_in_bf16(model(seed));
                watched(|watch| sweep(&mut host, name, &reference, &config, watch)).0.unwrap()
            })
            .collect();
        assert!(regimes.iter().all(|regime| regime.unit_roundoff == 2.0_f64.powi(-8)));
        for direction in [DirectionKind::Random, DirectionKind::Gradient, DirectionKind::Top] {
            let mut ratios = Vec::new();
            for (seed, regime) in regimes.iter().enumerate() {
                let record = along(regime, direction);
                // Where the best of all steps is off by as much as there is, there is nothing to be near to.
                if record.best.is_some_and(|best| best.error < 1.0) {
                    ratios.push(record.automatic.ratio.unwrap());
                    let what = format!("{name} {seed}, {direction}: {:?}", record.automatic);
                    all.push((record.automatic.ratio.unwrap(), what));
                }
            }
            ratios.sort_by(f64::total_cmp);
            let median = ratios[ratios.len() / 2];
            assert!(ratios.len() >= 15 && median <= 2.0, "{name}, {direction}: {ratios:?}");
        }
    }
    let far: Vec<&(f64, String)> = all.iter().filter(|(ratio, _)| *ratio > 3.0).collect();
    assert!(10 * far.len() <= all.len(), "{} of {}: {far:#?}", far.len(), all.len());
}

#[test]
fn a_step_too_small_is_a_row_without_products_and_costs_nothing() {
    let config = RegimesConfig { steps: 4, ..RegimesConfig::default() };
    fn ones(_: u64) -> Model {
        let ones = Tensor::ones([5], (Kind::Double, tch::Device::Cpu));
        quadratic(&(&ones.diag(0) + &ones.outer(&ones)), &ones)
    }
    let regime = study(ones, 0, Kind::Float, &config);
    let record = along(&regime, DirectionKind::Random);
    let (first, last) = (&record.rows[0], record.rows.last().unwrap());
    assert!(first.central.is_none() && first.failed.as_ref().unwrap().contains("changes no parameter"));
    assert!(last.central.is_some() && last.failed.is_none());
    let products: u64 = regime
        .directions
        .iter()
        .flat_map(|record| record.rows.iter().map(|row| if row.central.is_some() { 3 } else { 0 }))
        .sum();
    let chosen: u64 =
        regime.directions.iter().map(|record| record.automatic.gradients + record.configured.gradients).sum();
    let runs: u64 = regime.runs.iter().map(|run| run.run.gradients).sum();
    // Two loans' g(θ), and the noise: at most its first product, asymmetry, a repetition and four times six.
    let rest = regime.gradients - products - chosen - runs;
    assert!((4..=31).contains(&rest), "{rest}");
    let plan = config.plan(Method::Exact);
    assert!(regime.gradients <= plan.sweep + plan.runs, "{} for {plan:?}", regime.gradients);
}

#[test]
fn records_survive_json() {
    let config = RegimesConfig { steps: 4, points_per_decade: 1, ..RegimesConfig::default() };
    let regime = study(mlp, 2, Kind::Float, &config);
    let text = serde_json::to_string(&regime).unwrap();
    assert_eq!(serde_json::from_str::<Regime>(&text).unwrap(), regime);
    assert_eq!((regime.version, regime.parameters), (1, 149));
    assert!((regime.unit_roundoff - 2.0_f64.powi(-24)).abs() < 1e-20);
}
