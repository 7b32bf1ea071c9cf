//! The preconditioned operator against the dense one.

use crate::closure_host::ClosureHost;
use crate::dense::{MatrixOperator, distance, eigenvalues};
use crate::models::{Model, Normal, mlp, quadratic, transformer};
use hessian_probe::config::{HvpConfig, Reorthogonalize};
use hessian_probe::krylov::{Basis, Lanczos, Operator, Product, Wrapper};
use hessian_probe::operator::{Calibration, FiniteDifference, Preconditioned, Start};
use hessian_probe::optimizer::Preconditioner;
use hessian_probe::sharded::Layout;
use hessian_probe::spectrum::quadrature;
use hessian_probe::{HessianProbe, Host, Interrupter, Optimizer, OptimizerKind, ProbeConfig, Snapshot};
use tch::{Device, Kind, Tensor};

const BETAS: (f64, f64) = (0.9, 0.95);
const EPS: f64 = 1e-6;
const LEARNING_RATE: f64 = 3e-3;

/// What a test's optimizer is: Adam's decay is part of the gradient, AdamW's is not.
#[derive(Clone, Copy)]
struct Settings {
    decoupled: bool,
    decay: f64,
    steps: u64,
}

fn lent(settings: Settings, moments: &[Tensor]) -> Optimizer {
    let Settings { decoupled, decay, steps } = settings;
    let (betas, eps) = (BETAS, EPS);
    Optimizer {
        kind: if decoupled {
            OptimizerKind::AdamW { betas, eps }
        } else {
            OptimizerKind::Adam { betas, eps }
        },
        learning_rate: LEARNING_RATE,
        weight_decay: moments.iter().map(|moment| if moment.dim() > 1 { decay } else { 0.0 }).collect(),
        steps,
        second_moments: moments.iter().map(Tensor::shallow_clone).collect(),
    }
}

/// v after `steps` steps of Adam's rule on gradients about the host's parameters. Of the first tensor, two rows have
/// never had a gradient.
fn moments(host: &mut ClosureHost, steps: u64) -> Vec<Tensor> {
    let mut normal = Normal::new(7);
    let origin: Vec<Tensor> = host.parameters.iter().map(|p| p.detach().copy()).collect();
    let mut moments: Vec<Tensor> = host.parameters.iter().map(|p| p.detach().zeros_like()).collect();
    for _ in 0..steps {
        let offsets: Vec<Tensor> =
            origin.iter().map(|p| normal.tensor(&p.size(), 0.1).to_kind(p.kind())).collect();
        tch::no_grad(|| {
            for ((live, origin), offset) in host.parameters.iter().zip(&origin).zip(&offsets) {
                live.shallow_clone().copy_(&(origin + offset));
            }
        });
        for (moment, gradient) in moments.iter_mut().zip(host.graph(false).1) {
            *moment = &*moment * BETAS.1 + &gradient * &gradient * (1.0 - BETAS.1);
        }
    }
    tch::no_grad(|| {
        for (live, origin) in host.parameters.iter().zip(&origin) {
            live.shallow_clone().copy_(origin);
        }
    });
    let _ = moments[0].narrow(0, 2, 2).zero_();
    moments
}

/// The eigenvalues of P^{-1/2}(H + W)P^{-1/2} over the parameters with a second moment, entry by entry in f64.
fn dense(hessian: &Tensor, moments: &[Tensor], settings: Settings) -> Vec<f64> {
    let flat = |of: &dyn Fn(&Tensor) -> Tensor| {
        Tensor::cat(&moments.iter().map(|m| of(m).reshape([-1])).collect::<Vec<_>>(), 0)
    };
    let v = flat(&|m| m.to_kind(Kind::Double));
    let decay = flat(&|m| {
        let decays = !settings.decoupled && m.dim() > 1;
        m.to_kind(Kind::Double).full_like(if decays { settings.decay } else { 0.0 })
    });
    let p = (v.shallow_clone() / (1.0 - BETAS.1.powi(settings.steps as i32))).sqrt() + EPS;
    let kept = v.gt(0.0).nonzero().view([-1]);
    let root = p.index_select(0, &kept).sqrt();
    let total = hessian + Tensor::diag(&decay, 0);
    let total = total.index_select(0, &kept).index_select(1, &kept);
    eigenvalues(&(total / root.unsqueeze(0) / root.unsqueeze(1)))
}

fn probe(toml: &str, host: &mut ClosureHost) -> Snapshot {
    let toml = format!("{toml}\n[log]\ntensorboard = false\njsonl = false");
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
    probe.probe(0, host).unwrap().clone()
}

/// An exact operator, second moments over ten orders of magnitude, every fifth parameter without one: all of T.
#[test]
fn of_a_matrix_all_eigenvalues_are_those_of_the_dense_operator() {
    let n = 30;
    let mut normal = Normal::new(3);
    let half = normal.tensor(&[n, n], 1.0);
    let matrix: Tensor = &half + half.tr();
    let exponents: Vec<f64> = (0..n).map(|i| -10.0 * i as f64 / n as f64).collect();
    let kept = Tensor::from_slice(&(0..n).map(|i| f64::from(i % 5 != 4)).collect::<Vec<_>>());
    let v = Tensor::from_slice(&exponents).exp2() * kept;
    let host = ClosureHost::new(quadratic(&matrix, &v), Kind::Double);
    for settings in [
        Settings { decoupled: true, decay: 0.3, steps: 1 },
        Settings { decoupled: true, decay: 0.0, steps: 900 },
        Settings { decoupled: false, decay: 0.3, steps: 4 },
    ] {
        // As a matrix, so that it decays.
        let moments = [v.view([n, 1])];
        let preconditioner = Preconditioner::new(&lent(settings, &moments), &host.shards()).unwrap();
        let mut inner = MatrixOperator::new(&matrix);
        let steps = n as usize;
        let layout = Layout::new(&host, None).unwrap();
        let mut basis = Basis::new(&layout, Reorthogonalize::Full, steps).unwrap();
        let mut row = basis.next_row().unwrap();
        row.copy_(&normal.tensor(&[n], 1.0));
        let mut operator = Preconditioned::new(&mut inner, &preconditioner, &row).unwrap();
        assert_eq!(operator.moved(), 24);
        basis.commit().unwrap();
        let mut w = Tensor::zeros([n], (Kind::Double, Device::Cpu));
        let lanczos = Lanczos { steps, reorthogonalize: Reorthogonalize::Full };
        let run = lanczos.run(&mut operator, &mut basis, &mut w).unwrap();
        assert_eq!(run.breakdown, Some(24), "the space of the parameters that are moved is invariant");
        let found = quadrature(0, &run).unwrap();
        let expected = dense(&matrix, &moments, settings);
        let scale = expected.iter().fold(0.0_f64, |scale, value| scale.max(value.abs()));
        assert_eq!(found.nodes.len(), expected.len());
        for (node, value) in found.nodes.iter().zip(&expected) {
            assert!((node - value).abs() <= 1e-10 * scale, "{node} for {value}");
        }
    }
}

/// Through a probe, on a transformer, with the moments of a run: the first step, some, and so many that nothing is left
/// of the bias correction; with and without decay of either kind.
#[test]
fn preconditioned_extremes_of_a_transformer_are_those_of_the_dense_operator() {
    let mut host = ClosureHost::new(transformer(5), Kind::Double);
    let hessian = host.dense_hessian();
    for (steps, decoupled, decay) in
        [(1, true, 0.0), (6, true, 0.1), (6, false, 0.0), (6, false, 0.05), (400, true, 0.1)]
    {
        let settings = Settings { decoupled, decay, steps };
        let moments = moments(&mut host, steps.min(12));
        let expected = dense(&hessian, &moments, settings);
        host.optimizer = Some(lent(settings, &moments));
        let found = probe(
            "[slq]\nsteps = 150\noperator = \"preconditioned\"\n[hvp]\ndifference = \"central\"",
            &mut host,
        );
        let seen = found.preconditioned.as_ref().unwrap();
        let (largest, smallest) = (expected[expected.len() - 1], expected[0]);
        for (extreme, value) in [(seen.lambda_max, largest), (seen.lambda_min, smallest)] {
            let off = (extreme.value - value).abs();
            assert!(off <= 1e-6 * value.abs(), "{steps} steps: {extreme:?} for {value}: {:e}", off / value);
            assert!(off <= extreme.residual, "{steps} steps: {extreme:?} for {value}");
        }
        assert_eq!((found.lambda_max, found.lambda_min), (seen.lambda_max, seen.lambda_min));
        assert_eq!(seen.moved, expected.len() as u64);
        assert_eq!(seen.moved + 12, found.parameters, "two rows of the embedding are never moved");
        let corrected = LEARNING_RATE / (1.0 - BETAS.0.powi(steps as i32));
        let contracted = if decoupled { 2.0 - LEARNING_RATE * decay } else { 2.0 };
        let threshold = 1.9 * contracted / (0.1 * corrected);
        let stability = &seen.stability;
        assert!((stability.threshold.unwrap() / threshold - 1.0).abs() < 1e-12, "{stability:?}");
        assert!((stability.margin.unwrap() / (largest / threshold) - 1.0).abs() < 1e-6, "{stability:?}");
        assert_eq!((stability.steps, stability.learning_rate), (steps, LEARNING_RATE));
        if steps == 400 {
            let of_the_literature = 38.0 / LEARNING_RATE;
            assert!((stability.threshold.unwrap() / of_the_literature - 1.0).abs() < 1e-3);
        }
    }
}

/// In f32 and by any difference: what is reported is within what is reported of its error.
#[test]
fn preconditioned_extremes_are_within_their_residuals() {
    for (model, seeds) in [(mlp as fn(u64) -> Model, 0..5), (transformer, 2..3)] {
        for (kind, seed) in seeds.flat_map(|seed| [(Kind::Float, seed), (Kind::Double, seed)]) {
            let mut host = ClosureHost::new(model(seed), kind);
            let exact = ClosureHost::at_the_same_parameters(model(seed), &host);
            let hessian = exact.dense_hessian();
            let settings = Settings { decoupled: true, decay: 0.1, steps: 12 };
            let moments = moments(&mut host, 12);
            let expected = dense(&hessian, &moments, settings);
            let largest = expected[expected.len() - 1];
            host.optimizer = Some(lent(settings, &moments));
            for difference in ["auto", "central"] {
                let toml = format!(
                    "[slq]\nsteps = 30\noperator = \"preconditioned\"\nseed = {seed}\n[hvp]\ndifference = \"{difference}\""
                );
                let found = probe(&toml, &mut host);
                for extreme in [found.lambda_max, found.lambda_min] {
                    let off = distance(extreme.value, &expected);
                    assert!(off <= extreme.residual, "{kind:?} {difference} {seed}: {extreme:?} off {off:e}");
                }
                let off = (found.lambda_max.value / largest - 1.0).abs();
                eprintln!(
                    "{kind:?} {difference} seed {seed}: off by {off:.1e}, residual {:.1e}, of it products {:.1e}",
                    found.lambda_max.residual / largest,
                    found.lambda_max.hvp_error / largest,
                );
                assert!(off <= 0.02, "{kind:?} {difference} {seed}: {:?} for {largest}", found.lambda_max);
            }
        }
    }
}

/// Products with the preconditioned operator, each compared with double backward.
struct Checked<'a, 'b, 'h> {
    inner: Preconditioned<'b, FiniteDifference<'b, 'h>>,
    exact: &'a ClosureHost,
    root: &'a Tensor,
    /// True over predicted error of each product.
    ratios: Vec<f64>,
}

impl<'b, 'h> Wrapper for Checked<'_, 'b, 'h> {
    type Inner = Preconditioned<'b, FiniteDifference<'b, 'h>>;

    fn inner(&self) -> &Self::Inner {
        &self.inner
    }

    fn inner_mut(&mut self) -> &mut Self::Inner {
        &mut self.inner
    }

    fn product(
        &mut self,
        index: usize,
        q: &Tensor,
        expected: Option<f64>,
        target: &mut Tensor,
    ) -> hessian_probe::Result<Product> {
        let product = self.inner.apply(index, q, expected, target)?;
        let q = q.to_kind(Kind::Double);
        let exact = self.root * self.exact.exact_product(&(self.root * &q));
        let off = target.to_kind(Kind::Double) * product.scale - &exact;
        self.ratios.push(off.norm().double_value(&[]) / product.error);
        let alpha = exact.dot(&q).double_value(&[]);
        assert!((product.alpha - alpha).abs() <= 5.0 * product.error, "{product:?} for {alpha}");
        Ok(product)
    }
}

/// The predicted error of a product is a bound within the factor that residuals count with, and not much more than that.
#[test]
fn predicted_errors_of_preconditioned_products_bound_the_true_ones() {
    let settings = Settings { decoupled: true, decay: 0.0, steps: 12 };
    for (model, kind) in [
        (mlp as fn(u64) -> Model, Kind::Float),
        (mlp, Kind::Double),
        (transformer, Kind::Float),
        (transformer, Kind::Double),
    ] {
        let mut ratios = Vec::new();
        for seed in 0..4 {
            let mut host = ClosureHost::new(model(seed), kind);
            let exact = ClosureHost::at_the_same_parameters(model(seed), &host);
            let moments = moments(&mut host, 12);
            let v: Vec<Tensor> = moments.iter().map(|m| m.to_kind(Kind::Double).reshape([-1])).collect();
            let v = Tensor::cat(&v, 0);
            let p = (&v / (1.0 - BETAS.1.powi(12))).sqrt() + EPS;
            let root = p.rsqrt() * v.gt(0.0).to_kind(Kind::Double);
            let preconditioner = Preconditioner::new(&lent(settings, &moments), &host.shards()).unwrap();
            let layout = Layout::new(&host, None).unwrap();
            let (mut calibration, never) = (Calibration::default(), Interrupter::default());
            let mut basis = Basis::new(&layout, Reorthogonalize::Full, 15).unwrap();
            let mut w = Tensor::zeros([layout.local_len()], (kind, Device::Cpu));
            let mut row = basis.next_row().unwrap();
            let start = Normal::new(seed + 5).tensor(&row.size(), 1.0);
            row.copy_(&(&start / start.norm()));
            let config = HvpConfig::default();
            let start = Start { vector: &row, spare: None };
            let mut inner =
                FiniteDifference::new(&mut host, &layout, &config, &mut calibration, &never, start, &mut w)
                    .unwrap();
            let mut memory = Vec::new();
            inner.exchange_curvature(&mut memory);
            let inner = Preconditioned::new(&mut inner, &preconditioner, &row).unwrap();
            let mut operator = Checked { inner, exact: &exact, root: &root, ratios: Vec::new() };
            basis.commit().unwrap();
            let lanczos = Lanczos { steps: 15, reorthogonalize: Reorthogonalize::Full };
            lanczos.run(&mut operator, &mut basis, &mut w).unwrap();
            ratios.extend(operator.ratios);
        }
        ratios.sort_by(f64::total_cmp);
        let (median, worst) = (ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
        eprintln!("{kind:?}: true/predicted {:.3} to {worst:.2}, median {median:.2}", ratios[0]);
        assert!(worst <= 5.0, "{kind:?}: {worst}");
        assert!(median >= 0.02, "{kind:?}: {median}");
    }
}

/// The Hessian's own part of a probe of both is that of a probe of the Hessian, bit for bit; so is the other's.
#[test]
fn a_probe_of_both_is_that_of_each() {
    let mut host = ClosureHost::new(transformer(2), Kind::Float);
    let moments = moments(&mut host, 5);
    host.optimizer = Some(lent(Settings { decoupled: true, decay: 0.1, steps: 5 }, &moments));
    let of = |operator: &str, host: &mut ClosureHost| {
        probe(&format!("[slq]\nsteps = 12\nprobes = 2\noperator = \"{operator}\""), host)
    };
    let before = host.flat();
    let [hessian, preconditioned, both] =
        ["hessian", "preconditioned", "both"].map(|operator| of(operator, &mut host));
    assert_eq!(host.flat(), before);
    assert!(hessian.preconditioned.is_none() && hessian.stability.is_none());
    assert_eq!((hessian.probes, hessian.lambda_max), (both.probes, both.lambda_max));
    assert_eq!(hessian.hvp, both.hvp);
    let (alone, beside) = (preconditioned.preconditioned.unwrap(), both.preconditioned.unwrap());
    assert_eq!(alone.lambda_max, beside.lambda_max);
    assert_eq!((preconditioned.probes, alone.products), (beside.probes, beside.products));
    assert!(alone.probes.is_empty());
    assert!(both.cost.gradients > hessian.cost.gradients.max(preconditioned.cost.gradients));
}

/// |⟨y, P^{-1/2}∇L⟩| / ‖P^{-1/2}∇L‖ of the dense operator's top eigenvector y, for decay that is no part of the gradient.
fn gradient_overlap(host: &ClosureHost, hessian: &Tensor, moments: &[Tensor], settings: Settings) -> f64 {
    let flat = |tensors: &[Tensor]| {
        let pieces: Vec<Tensor> = tensors.iter().map(|t| t.to_kind(Kind::Double).reshape([-1])).collect();
        Tensor::cat(&pieces, 0)
    };
    let v = flat(moments);
    let p = (&v / (1.0 - BETAS.1.powi(settings.steps as i32))).sqrt() + EPS;
    let root = p.rsqrt() * v.gt(0.0).to_kind(Kind::Double);
    let (_, vectors) = (hessian * root.unsqueeze(0) * root.unsqueeze(1)).linalg_eigh("L");
    let scaled = flat(&host.graph(false).1) * &root;
    (vectors.select(1, -1).dot(&scaled).abs() / scaled.norm()).double_value(&[])
}

/// Between probes: λ_max of the preconditioned operator, from a random start and from a full probe's vector, and the margin.
#[test]
fn a_tracked_eigenvalue_of_the_preconditioned_operator_is_the_dense_one_s_with_its_margin() {
    let settings = Settings { decoupled: true, decay: 0.1, steps: 20 };
    for kind in [Kind::Double, Kind::Float] {
        let mut host = ClosureHost::new(transformer(5), kind);
        let moments = moments(&mut host, settings.steps);
        host.optimizer = Some(lent(settings, &moments));
        let hessian = ClosureHost::at_the_same_parameters(transformer(5), &host).dense_hessian();
        let values = dense(&hessian, &moments, settings);
        let largest = values[values.len() - 1];
        for operator in ["both", "preconditioned"] {
            let toml = format!(
                "[slq]\nsteps = 30\noperator = \"{operator}\"\n[track]\nevery = 1\nproducts = 4\n[log]\ntensorboard = false\njsonl = false"
            );
            let made = || HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
            let mut cold = made();
            for step in 0..4 {
                let tracked = cold.track(step, &mut host).unwrap();
                let off = distance(tracked.lambda_max.value, &values);
                assert!(off <= tracked.lambda_max.residual, "step {step}: {tracked:?} is off by {off:e}");
            }
            let mut warm = made();
            warm.probe(0, &mut host).unwrap();
            let tracked = warm.track(1, &mut host).unwrap();
            let off = (tracked.lambda_max.value - largest).abs();
            assert!(off <= tracked.lambda_max.residual && off <= 0.01 * largest, "{tracked:?} for {largest}");
            assert!(tracked.overlap.unwrap() > 0.999, "{tracked:?}");
            let expected = gradient_overlap(&host, &hessian, &moments, settings);
            let found = tracked.gradient_overlap.unwrap();
            assert!((found - expected).abs() <= 0.05 * expected, "{found} for {expected}");
            let stability = tracked.stability.unwrap();
            let threshold = lent(settings, &moments).threshold().unwrap();
            assert_eq!(stability.threshold, Some(threshold));
            assert_eq!(stability.margin, Some(tracked.lambda_max.value / threshold));
        }
        // The Hessian's own eigenvalue is none that counts for an adaptive optimizer.
        let toml = "[track]\nevery = 1\n[log]\ntensorboard = false\njsonl = false";
        let mut plain = HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap();
        assert_eq!(plain.track(0, &mut host).unwrap().stability, None);
        // Before its first step it has nothing to track.
        host.optimizer = Some(lent(Settings { steps: 0, ..settings }, &[]));
        let toml = format!("[slq]\noperator = \"both\"\n{toml}");
        let mut early = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        assert!(early.track(0, &mut host).unwrap_err().to_string().contains("not yet"));
    }
}
