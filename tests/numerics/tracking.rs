//! λ_max between full probes, against the dense Hessian.

use crate::closure_host::ClosureHost;
use crate::dense::{distance, eigenvalues};
use crate::models::{Model, mlp, transformer};
use hessian_probe::{HessianProbe, ProbeConfig};
use tch::Kind;

fn probe(toml: &str) -> HessianProbe {
    let toml = format!("{toml}\n[log]\ntensorboard = false\njsonl = false");
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

/// The largest eigenvalue and all of them.
fn exact(model: fn(u64) -> Model, host: &ClosureHost) -> (f64, Vec<f64>) {
    let dense = ClosureHost::at_the_same_parameters(model(5), host).dense_hessian();
    let values = eigenvalues(&dense);
    (values[values.len() - 1], values)
}

/// From a random start each time a little closer; from a full probe at once.
#[test]
fn a_few_products_keep_the_largest_eigenvalue() {
    for (model, kind) in
        [(mlp as fn(u64) -> Model, Kind::Double), (transformer, Kind::Double), (transformer, Kind::Float)]
    {
        let mut host = ClosureHost::new(model(5), kind);
        let (largest, values) = exact(model, &host);
        let mut cold = probe("[track]\nevery = 1\nproducts = 4");
        let mut previous = f64::NEG_INFINITY;
        for step in 0..8 {
            let tracked = cold.track(step, &mut host).unwrap();
            let off = distance(tracked.lambda_max.value, &values);
            assert!(off <= tracked.lambda_max.residual, "step {step}: {tracked:?} is off by {off:e}");
            assert_eq!(tracked.overlap.is_none(), step == 0);
            assert!(tracked.lambda_max.value >= previous - tracked.lambda_max.hvp_error, "it does not fall");
            previous = tracked.lambda_max.value;
        }
        assert!((previous / largest - 1.0).abs() < 1e-2, "{previous} for {largest}");
        let mut warm = probe("[slq]\nsteps = 30\n[track]\nevery = 1\nproducts = 3");
        warm.probe(0, &mut host).unwrap();
        let tracked = warm.track(1, &mut host).unwrap();
        let off = (tracked.lambda_max.value - largest).abs();
        assert!(off <= tracked.lambda_max.residual, "{tracked:?} for {largest}");
        // Products by forward differences are good to 2 %, which the residual says.
        assert!(off <= 0.01 * largest, "{tracked:?} for {largest}");
        assert!(tracked.overlap.unwrap() > 0.999, "{tracked:?}");
        let gradients = tracked.gradients;
        assert!(gradients <= 8, "{gradients} gradients for 3 products");
    }
}

/// It follows the parameters: after a step the new eigenvalue, and vectors that overlap.
#[test]
fn tracking_follows_the_parameters() {
    let mut host = ClosureHost::new(transformer(5), Kind::Double);
    let mut probe = probe("[slq]\nsteps = 30\n[track]\nevery = 1\nproducts = 4");
    probe.probe(0, &mut host).unwrap();
    for step in 1..4 {
        let (_, gradients) = host.graph(false);
        tch::no_grad(|| {
            for (parameter, gradient) in host.parameters.iter().zip(&gradients) {
                let _ = parameter.shallow_clone().f_sub_(&(gradient * 0.01)).unwrap();
            }
        });
        let tracked = probe.track(step, &mut host).unwrap();
        let (largest, _) = exact(transformer, &host);
        assert!((tracked.lambda_max.value / largest - 1.0).abs() < 1e-3, "{tracked:?} for {largest}");
        assert!((0.5..=1.0 + 1e-9).contains(&tracked.overlap.unwrap()), "{tracked:?}");
        assert!(tracked.gradient_overlap.unwrap() <= 1.0 + 1e-9);
    }
}
