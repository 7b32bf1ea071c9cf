//! λ_max between full probes, against the dense Hessian.

use crate::closure_host::ClosureHost;
use crate::dense::{distance, eigenvalues};
use crate::models::{Model, mlp, transformer};
use hessian_probe::{HessianProbe, ProbeConfig};
use tch::{Kind, Tensor};

fn probe(toml: &str) -> HessianProbe {
    let toml = format!("{toml}\n[log]\ntensorboard = false\njsonl = false");
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

/// Of the dense Hessian.
struct Exact {
    largest: f64,
    values: Vec<f64>,
    /// |⟨y, ∇L⟩| / ‖∇L‖, y the vector of the largest.
    gradient_overlap: f64,
}

fn exact(model: fn(u64) -> Model, host: &ClosureHost) -> Exact {
    let same = ClosureHost::at_the_same_parameters(model(5), host);
    let dense = same.dense_hessian();
    let values = eigenvalues(&dense);
    let (_, vectors) = dense.linalg_eigh("L");
    let pieces: Vec<Tensor> = same.graph(false).1.iter().map(|g| g.reshape([-1])).collect();
    let gradient = Tensor::cat(&pieces, 0);
    let top = vectors.select(1, -1);
    let gradient_overlap = (top.dot(&gradient).abs() / gradient.norm()).double_value(&[]);
    Exact { largest: values[values.len() - 1], values, gradient_overlap }
}

/// From a random start each time a little closer; from a full probe at once.
#[test]
fn a_few_products_keep_the_largest_eigenvalue() {
    for (model, kind) in
        [(mlp as fn(u64) -> Model, Kind::Double), (transformer, Kind::Double), (transformer, Kind::Float)]
    {
        let mut host = ClosureHost::new(model(5), kind);
        let Exact { largest, values, gradient_overlap } = exact(model, &host);
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
        let found = tracked.gradient_overlap.unwrap();
        assert!(
            (found - gradient_overlap).abs() <= 1e-2 * gradient_overlap,
            "{found} for {gradient_overlap}"
        );
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
        let Exact { largest, values, gradient_overlap } = exact(transformer, &host);
        assert!((tracked.lambda_max.value / largest - 1.0).abs() < 1e-3, "{tracked:?} for {largest}");
        assert!((0.5..=1.0 + 1e-9).contains(&tracked.overlap.unwrap()), "{tracked:?}");
        let found = tracked.gradient_overlap.unwrap();
        // By Davis and Kahan: sin of the angle between the vectors ≤ residual / gap.
        let gap = tracked.lambda_max.value - values[values.len() - 2];
        let bound = 1.5 * tracked.lambda_max.residual / gap;
        assert!((found - gradient_overlap).abs() <= bound, "{found} for {gradient_overlap} ± {bound}");
        assert!(bound < gradient_overlap, "which says something: {gradient_overlap} ± {bound}");
    }
}
