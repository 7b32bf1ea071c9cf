//! Critical sharpness against closed forms and dense scans of the loss.

use crate::closure_host::ClosureHost;
use crate::models::{Model, mlp, transformer};
use hessian_probe::sharpness::CriticalSharpness;
use hessian_probe::{Callback, HessianProbe, Host, OptimizerKind, ProbeConfig};
use tch::{Kind, Tensor};

fn probe(toml: &str) -> HessianProbe {
    let toml = format!("{toml}\n[slq]\nsteps = 4\n[log]\ntensorboard = false\njsonl = false");
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

/// Gradient descent's update at learning rate η, which the host then lends with its optimizer.
fn descend(host: &mut ClosureHost, eta: f64) {
    host.update = Some(host.graph(false).1.iter().map(|g| g * -eta).collect());
    let kind = OptimizerKind::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false };
    host.lend(kind, eta, 1, Vec::new());
}

/// θ + cu.
fn moved(host: &ClosureHost, theta: &[Tensor], c: f64) {
    tch::no_grad(|| {
        for ((live, theta), u) in host.parameters.iter().zip(theta).zip(host.update.as_ref().unwrap()) {
            live.shallow_clone().copy_(&(theta + u * c));
        }
    });
}

fn theta(host: &ClosureHost) -> Vec<Tensor> {
    host.parameters.iter().map(|p| p.detach().copy()).collect()
}

/// Σ λx²/2 with eigenvalues over four decades, in two tensors.
fn quadratic() -> (Model, Vec<f64>) {
    let lambda: Vec<f64> = (0..12).map(|i| 10_f64.powf(1.0 - f64::from(i) / 3.0)).collect();
    let (first, second) = (Tensor::from_slice(&lambda[..5]), Tensor::from_slice(&lambda[5..]));
    let start = |len: i64| (Tensor::arange(len, (Kind::Double, tch::Device::Cpu)) * 0.7).sin() + 0.3;
    let model = Model {
        names: vec!["a".into(), "b".into()],
        parameters: vec![start(5), start(7)],
        loss: Box::new(move |p: &[Tensor]| {
            let kind = Some(p[0].kind());
            ((&p[0] * &p[0] * &first).sum(kind) + (&p[1] * &p[1] * &second).sum(kind)) * 0.5
        }),
    };
    (model, lambda)
}

/// Within its bracket, its error and the number of passes; to `within` of itself.
fn check(found: &CriticalSharpness, root: f64, within: f64, what: &str) {
    let (lower, upper) = (found.lower.unwrap(), found.upper.unwrap());
    let (multiple, error) = (found.multiple.unwrap(), found.error.unwrap());
    assert!(lower <= root && root <= upper, "{what}: {root} for {found:?}");
    assert!((multiple - root).abs() <= error && error <= within * multiple, "{what}: {root} for {found:?}");
    assert!(found.passes <= 8, "{what}: {found:?}");
}

#[test]
fn on_a_quadratic_it_is_the_curvature_along_the_gradient() {
    for eta in [1e-4, 0.02, 3.0] {
        let (model, lambda) = quadratic();
        let mut host = ClosureHost::new(model, Kind::Double);
        descend(&mut host, eta);
        let gradient: Vec<f64> = Vec::try_from(Tensor::cat(&host.graph(false).1, 0)).unwrap();
        let squared: f64 = gradient.iter().map(|g| g * g).sum();
        let curvature: f64 = gradient.iter().zip(&lambda).map(|(g, l)| l * g * g).sum::<f64>() / squared;
        let mut probe = probe("");
        let before = host.flat();
        let found = probe.critical_sharpness(4, &mut host).unwrap().unwrap();
        assert_eq!(host.flat(), before);
        check(&found, 2.0 / (eta * curvature), 0.03, "quadratic");
        assert!((found.sharpness.unwrap() / curvature - 1.0).abs() < 1e-9, "{found:?} for {curvature}");
        assert!((found.step_ratio.unwrap() / (eta * curvature / 2.0) - 1.0).abs() < 1e-9);
        assert_eq!((found.step, found.coming, found.learning_rate), (4, true, Some(eta)));
        assert!((found.update_norm / (eta * squared.sqrt()) - 1.0).abs() < 1e-12);
        assert!((found.realised - 1.0).abs() < 1e-9);
        assert_eq!(found.passes, host.calls, "every evaluation is counted");
    }
}

/// The first multiple on a fine grid at which the loss exceeds L(θ), over several steps of training with a warm start.
#[test]
fn on_networks_it_is_where_a_dense_scan_of_the_loss_first_rises() {
    for (name, model, kind, eta) in [
        ("perceptron", mlp(3), Kind::Double, 0.5),
        ("transformer", transformer(3), Kind::Double, 0.5),
        ("transformer in f32", transformer(3), Kind::Float, 0.5),
    ] {
        let mut host = ClosureHost::new(model, kind);
        let mut probe = probe("");
        for step in 0..4 {
            descend(&mut host, eta);
            let found = probe.critical_sharpness(step, &mut host).unwrap().unwrap();
            let origin = theta(&host);
            let here = host.loss().unwrap();
            let grid = found.multiple.unwrap() / 200.0;
            let rises = |c: f64, host: &mut ClosureHost| {
                moved(host, &origin, c);
                host.loss().unwrap() > here
            };
            let first = (1..=300).find(|&i| rises(f64::from(i) * grid, &mut host)).expect("a rise");
            let (below, above) = (f64::from(first - 1) * grid, f64::from(first) * grid);
            // Within the scan's own grid, and, in f32, what rounds there as here.
            let (lower, upper) = (found.lower.unwrap(), found.upper.unwrap());
            assert!(lower <= above && below <= upper, "{name}, step {step}: [{below}, {above}], {found:?}");
            // At first nothing is known of where to look, and after the first step it is elsewhere.
            let within = [0.5, 0.1, 0.03, 0.03][step as usize];
            check(&found, 0.5 * (below + above).clamp(2.0 * lower, 2.0 * upper), within, name);
            moved(&host, &origin, 1.0);
        }
    }
}

#[test]
fn a_step_that_overshoots_has_a_ratio_above_1_and_one_that_only_rises_a_bound() {
    let (model, lambda) = quadratic();
    let mut host = ClosureHost::new(model, Kind::Double);
    descend(&mut host, 4.0 / lambda[0]);
    let found = probe("").critical_sharpness(0, &mut host).unwrap().unwrap();
    assert!(found.step_ratio.unwrap() > 1.0 && found.step_ratio_at_least() == found.step_ratio);
    let origin = theta(&host);
    let here = host.loss().unwrap();
    moved(&host, &origin, 1.0);
    assert!(host.loss().unwrap() > here, "the step itself makes the loss larger");
    moved(&host, &origin, 0.0);
    // Uphill.
    descend(&mut host, -0.1);
    let found = probe("").critical_sharpness(0, &mut host).unwrap().unwrap();
    assert_eq!((found.multiple, found.lower, found.sharpness), (None, None, None));
    assert!(found.step_ratio_at_least().unwrap() > 100.0, "{found:?}");
}

#[test]
fn without_an_update_there_is_no_number_and_training_goes_on() {
    let mut host = ClosureHost::new(mlp(1), Kind::Float);
    let mut probe = probe("on_error = \"stop\"\n[sharpness]\nevery = 1");
    for step in 0..3 {
        probe.on_before_optimizer_step(step, &mut host).unwrap();
        probe.on_step_end(step, &mut host).unwrap();
    }
    assert!(probe.latest_sharpness().is_none() && host.calls == 0);
    host.update = Some(host.parameters.iter().map(Tensor::zeros_like).collect());
    assert!(probe.critical_sharpness(3, &mut host).unwrap().is_none() && host.calls == 0);
}

#[test]
fn it_is_measured_once_a_step_and_costs_nothing_when_off_and_what_its_budget_allows() {
    let run = |toml: &str, early: bool| {
        let mut host = ClosureHost::new(mlp(1), Kind::Float);
        descend(&mut host, 0.1);
        let mut probe = probe(toml);
        let mut calls = Vec::new();
        for step in 0..6 {
            if early {
                probe.on_before_optimizer_step(step, &mut host).unwrap();
            }
            probe.on_step_end(step, &mut host).unwrap();
            calls.push(std::mem::take(&mut host.calls));
        }
        calls
    };
    assert_eq!(run("", true), [0; 6]);
    for early in [true, false] {
        let every = run("[sharpness]\nevery = 2", early);
        for (step, calls) in every.into_iter().enumerate() {
            assert_eq!(calls > 0, step % 2 == 0, "step {step}");
            assert!(calls <= 8);
        }
        assert!(run("[sharpness]\nevery = 1\npasses = 4", early).into_iter().all(|calls| calls <= 4));
        let paced = run("[sharpness]\nevery = 1\n[budget]\nmax_overhead = 1e-9", early);
        assert!(paced[0] > 0 && paced[1..] == [0; 5], "{paced:?}");
    }
}

/// However long training takes: no measurement follows another sooner than a tenth allows, and each says its own share.
#[test]
fn its_share_of_the_training_time_is_told_and_kept_to_the_budget() {
    let mut host = ClosureHost::new(mlp(1), Kind::Float);
    descend(&mut host, 0.1);
    let mut probe = probe("[sharpness]\nevery = 1\n[budget]\nmax_overhead = 0.1");
    let mut found: Vec<CriticalSharpness> = Vec::new();
    for step in 0..60 {
        probe.on_step_end(step, &mut host).unwrap();
        found.extend(probe.latest_sharpness().filter(|it| it.step == step).cloned());
        std::thread::sleep(std::time::Duration::from_secs_f64(found[0].seconds));
    }
    assert_eq!((found[0].step, found[0].share), (0, None));
    assert!(found.len() > 1, "it is measured again");
    for pair in found.windows(2) {
        let training = pair[1].seconds / pair[1].share.unwrap();
        // It is taken to be as long as the last one was.
        assert!(pair[0].seconds <= 0.1 * training * (1.0 + 1e-9), "{pair:?}");
    }
}

/// The next search begins where the last one ended, also in another process.
#[test]
fn the_last_multiple_is_in_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let (model, _) = quadratic();
    let mut host = ClosureHost::new(model, Kind::Double);
    descend(&mut host, 1e-4);
    let cold = {
        let mut probe = probe("");
        let cold = probe.critical_sharpness(0, &mut host).unwrap().unwrap();
        probe.on_save_checkpoint(0, directory.path(), &mut host).unwrap();
        cold
    };
    let mut resumed = probe("");
    resumed.on_load_checkpoint(directory.path(), &mut host).unwrap();
    let warm = resumed.critical_sharpness(1, &mut host).unwrap().unwrap();
    assert!(warm.passes < cold.passes, "{warm:?} after {cold:?}");
}
