//! Curvature along single directions, and what the loss does along an update, against the dense Hessian.

use crate::closure_host::ClosureHost;
use crate::models::{Normal, mlp, transformer};
use hessian_probe::directions::Along;
use hessian_probe::{HessianProbe, Host, ProbeConfig};
use tch::{Kind, Tensor};

fn probe(toml: &str) -> HessianProbe {
    let toml = format!("{toml}\n[log]\ntensorboard = false\njsonl = false");
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

fn flat(tensors: &[Tensor]) -> Tensor {
    let pieces: Vec<Tensor> =
        tensors.iter().map(|t| t.detach().to_kind(Kind::Double).reshape([-1])).collect();
    Tensor::cat(&pieces, 0)
}

/// gᵀv/‖v‖, vᵀHv/‖v‖² and ‖Hv‖/‖v‖.
fn dense(host: &ClosureHost, v: &Tensor) -> [f64; 3] {
    let (norm, product) = (v.norm(), host.exact_product(v));
    let gradient = flat(&host.graph(false).1);
    [gradient.dot(v) / &norm, product.dot(v) / v.dot(v), product.norm() / norm].map(|x| x.double_value(&[]))
}

fn check(found: &Along, host: &ClosureHost, v: &Tensor, what: &str) {
    let [slope, curvature, product_norm] = dense(host, v);
    let close = |a: f64, b: f64, scale: f64| assert!((a - b).abs() <= 1e-7 * scale, "{what}: {a} for {b}");
    close(found.norm, v.norm().double_value(&[]), found.norm);
    close(found.slope, slope, slope.abs());
    close(found.curvature, curvature, product_norm);
    close(found.product_norm, product_norm, product_norm);
    assert!((found.curvature - curvature).abs() <= found.error, "{what}: {found:?} for {curvature}");
}

/// An update: of the gradient's direction, with some noise.
fn update(host: &ClosureHost, size: f64) -> Vec<Tensor> {
    let mut normal = Normal::new(21);
    let noisy = |g: Tensor| -(&g + normal.tensor(&g.size(), 1e-3).to_kind(g.kind())) * size;
    host.graph(false).1.into_iter().map(noisy).collect()
}

#[test]
fn curvatures_and_slopes_are_the_dense_ones_and_the_loss_change_is_that_of_the_loss() {
    for (name, model) in [("perceptron", mlp(3)), ("transformer", transformer(3))] {
        let mut host = ClosureHost::new(model, Kind::Double);
        let u = update(&host, 0.05);
        host.update = Some(u.iter().map(Tensor::shallow_clone).collect());
        let before = host.flat();
        let toml =
            "[slq]\nsteps = 4\n[hvp]\ndifference = \"central\"\n[directions]\ngradient = true\nupdate = true";
        let mut probe = probe(toml);
        for step in 0..2 {
            let found = probe.probe(step, &mut host).unwrap().directions.unwrap();
            assert_eq!(host.flat(), before, "θ is restored");
            check(&found.gradient.unwrap(), &host, &flat(&host.graph(false).1), name);
            let along = found.update.unwrap();
            check(&along.along, &host, &flat(&u), name);
            assert!(along.coming && (along.realised - 1.0).abs() < 1e-12);
            let [slope, curvature, _] = dense(&host, &flat(&u));
            let norm = flat(&u).norm().double_value(&[]);
            let predicted = slope * norm + 0.5 * curvature * norm * norm;
            assert!((along.predicted_change - predicted).abs() <= 1e-7 * predicted.abs(), "{along:?}");
            // The loss itself, there and here.
            let here = host.loss().unwrap();
            let moved = |host: &ClosureHost, u: &[Tensor], theta: &[Tensor]| {
                tch::no_grad(|| {
                    for ((live, theta), u) in host.parameters.iter().zip(theta).zip(u) {
                        live.shallow_clone().copy_(&(theta + u));
                    }
                });
            };
            let theta: Vec<Tensor> = host.parameters.iter().map(|p| p.detach().copy()).collect();
            moved(&host, &u, &theta);
            let there = host.loss().unwrap();
            moved(&host, &u.iter().map(Tensor::zeros_like).collect::<Vec<_>>(), &theta);
            assert!((along.measured_change - (there - here)).abs() < 1e-13, "{along:?} {}", there - here);
            // At this size the model of the loss holds to some per cent, and a line does not.
            let off = (along.predicted_change / along.measured_change - 1.0).abs();
            assert!(off < 0.05, "{name}: {along:?}");
        }
        let mut normal = Normal::new(5);
        let v: Vec<Tensor> = u.iter().map(|u| normal.tensor(&u.size(), 2.0)).collect();
        let found = probe.along(7, &mut host, &v).unwrap().unwrap();
        let zero: Vec<Tensor> = v.iter().map(Tensor::zeros_like).collect();
        assert!(probe.along(7, &mut host, &zero).unwrap().is_none());
        check(&found, &host, &flat(&v), name);
        assert!(probe.along_update(7, &mut host).unwrap().unwrap().coming);
        assert!(probe.along(7, &mut host, &v[1..]).unwrap_err().to_string().contains("direction"));
    }
}

/// The shorter the update, the better the quadratic model: its error goes with the cube of the length.
#[test]
fn the_error_of_the_predicted_change_is_of_third_order() {
    let mut host = ClosureHost::new(transformer(4), Kind::Double);
    let mut probe = probe("[hvp]\ndifference = \"central\"");
    let mut errors = Vec::new();
    for size in [0.01, 0.005, 0.0025] {
        host.update = Some(update(&host, size));
        let found = probe.along_update(0, &mut host).unwrap().unwrap();
        errors.push((found.predicted_change - found.measured_change).abs());
    }
    for pair in errors.windows(2) {
        let order = (pair[0] / pair[1]).log2();
        assert!((2.5..3.5).contains(&order), "{errors:?}");
    }
}

/// A host without an update has none in its snapshot, and directions leave the spectrum as it is.
#[test]
fn directions_are_off_unless_asked_for_and_change_nothing_else() {
    let mut host = ClosureHost::new(mlp(3), Kind::Float);
    let with = |host: &mut ClosureHost, toml: &str| {
        probe(&format!("[slq]\nsteps = 6\n{toml}")).probe(0, host).unwrap().clone()
    };
    let off = with(&mut host, "");
    let on = with(&mut host, "[directions]\ngradient = true\nupdate = true");
    assert!(off.directions.is_none());
    assert!(on.directions.unwrap().gradient.is_some() && on.directions.unwrap().update.is_none());
    assert_eq!((off.probes, off.hvp), (on.probes, on.hvp));
    assert!(on.cost.gradients > off.cost.gradients);
}

/// Two gradients by central differences, where the step is given: nothing else is computed for a direction.
#[test]
fn a_direction_is_one_product() {
    let gradients = |directions: &str| {
        let mut host = ClosureHost::new(mlp(3), Kind::Double);
        host.update = Some(update(&host, 0.05));
        let hvp = "[hvp]\ndifference = \"central\"\nstep_size = { absolute = 1e-4 }";
        let mut probe = probe(&format!("[slq]\nsteps = 4\n{hvp}\n[directions]\n{directions}"));
        let cost = probe.probe(0, &mut host).unwrap().cost.clone();
        // This host has no cheaper way to a loss than a gradient.
        (cost.gradients, host.calls)
    };
    let (without, calls) = gradients("");
    assert_eq!(gradients("gradient = true"), (without + 2, calls + 2));
    let (with, calls_with) = gradients("update = true");
    assert_eq!(with, without + 2);
    assert!((1..=2).contains(&(calls_with - calls - 2)), "the loss there, and here if it is not known");
    assert_eq!(gradients("gradient = true\nupdate = true").0, without + 4);
}
