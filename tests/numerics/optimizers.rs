//! Thresholds against libtorch's own optimizers: what a probe calls unstable diverges, and what it calls stable does not.
//! (`hooks/fsdp` has the same for its sharded AdamW.)

use crate::closure_host::ClosureHost;
use crate::models::{Normal, quadratic};
use hessian_probe::{HessianProbe, Optimizer, OptimizerKind, ProbeConfig};
use tch::nn::OptimizerConfig;
use tch::{Device, Kind, Tensor, nn};

const N: i64 = 6;
/// Adam's second moments at values of θ of 10⁻¹² do not count beside ε = 1: P is 1 to as many digits.
const EPS: f64 = 1.0;

/// Positive definite, with distinct eigenvalues.
fn matrix() -> Tensor {
    let half = Normal::new(4).tensor(&[N, N], 1.0);
    half.matmul(&half.tr()) + Tensor::eye(N, (Kind::Double, Device::Cpu)) * 0.5
}

/// Whether libtorch's optimizer drives ½θᵀAθ up from θ of size 10⁻¹², and not down.
fn diverges(kind: OptimizerKind, learning_rate: f64, decay: f64) -> bool {
    let matrix = matrix();
    let mut store = nn::VarStore::new(Device::Cpu);
    let theta = store.root().var_copy("theta", &Normal::new(8).tensor(&[N], 1e-12));
    store.double();
    let mut optimizer = match kind {
        OptimizerKind::Sgd { momentum, dampening, nesterov } => {
            nn::Sgd { momentum, dampening, wd: decay, nesterov }.build(&store, 1e-9)
        }
        OptimizerKind::Adam { betas: (beta1, beta2), eps } => {
            nn::Adam { beta1, beta2, wd: decay, eps, amsgrad: false }.build(&store, 1e-9)
        }
        OptimizerKind::AdamW { betas: (beta1, beta2), eps } => {
            nn::AdamW { beta1, beta2, wd: decay, eps, amsgrad: false }.build(&store, 1e-9)
        }
    }
    .unwrap();
    // Until nothing is left of the bias correction, which makes the first steps larger.
    for _ in 0..300 {
        let loss = (&theta * matrix.mv(&theta)).sum(Kind::Double) * 0.5;
        optimizer.backward_step(&loss);
    }
    optimizer.set_lr(learning_rate);
    let size = || theta.detach().norm().double_value(&[]);
    let start = size();
    for _ in 0..20_000 {
        let loss = (&theta * matrix.mv(&theta)).sum(Kind::Double) * 0.5;
        optimizer.backward_step(&loss);
        let now = size() / start;
        if !(1e-4..1e4).contains(&now) {
            return now > 1.0;
        }
    }
    panic!("{kind:?} neither grows nor shrinks at {learning_rate}: {}", size() / start);
}

/// The margin that a probe finds for this optimizer.
fn margin(kind: OptimizerKind, learning_rate: f64, decay: f64) -> f64 {
    let theta = Normal::new(8).tensor(&[N], 1.0);
    let mut host = ClosureHost::new(quadratic(&matrix(), &theta), Kind::Double);
    let adaptive = kind.adaptive().is_some();
    host.optimizer = Some(Optimizer {
        kind,
        learning_rate,
        weight_decay: vec![decay],
        steps: 100_000,
        second_moments: if adaptive { vec![theta.full_like(1e-30)] } else { Vec::new() },
    });
    let operator = if adaptive { "preconditioned" } else { "hessian" };
    let toml = format!(
        "[slq]\nsteps = {N}\noperator = \"{operator}\"\n[hvp]\ndifference = \"central\"\n[log]\ntensorboard = false\njsonl = false"
    );
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
    let found = probe.probe(0, &mut host).unwrap();
    let stability = match &found.preconditioned {
        Some(seen) => &seen.stability,
        None => found.stability.as_ref().unwrap(),
    };
    assert_eq!((stability.optimizer.as_str(), stability.steps), (kind.name(), 100_000));
    stability.margin.unwrap()
}

#[test]
fn libtorch_s_optimizers_diverge_just_above_the_threshold_and_converge_just_below() {
    let sgd = |momentum, dampening, nesterov| OptimizerKind::Sgd { momentum, dampening, nesterov };
    let (betas, eps) = ((0.9, 0.99), EPS);
    for (kind, decay) in [
        (sgd(0.0, 0.0, false), 0.0),
        (sgd(0.0, 0.0, false), 0.8),
        (sgd(0.9, 0.0, false), 0.0),
        (sgd(0.8, 0.5, false), 0.8),
        (sgd(0.9, 0.0, true), 0.0),
        (sgd(0.5, 0.0, true), 0.8),
        (OptimizerKind::Adam { betas, eps }, 0.0),
        (OptimizerKind::Adam { betas, eps }, 0.8),
        (OptimizerKind::AdamW { betas, eps }, 0.0),
        (OptimizerKind::AdamW { betas, eps }, 0.1),
    ] {
        for wanted in [0.99, 1.01] {
            // The learning rate at which the margin is what is wanted: it grows with it.
            let (mut low, mut high) = (1e-4_f64, 1e3_f64);
            for _ in 0..40 {
                let middle = (low * high).sqrt();
                // Beyond the last rate that AdamW's own decay allows, nothing is stable.
                let stable = kind.threshold(middle, decay, None).filter(|threshold| *threshold > 0.0);
                let over = stable.is_none_or(|threshold| largest(kind, decay) / threshold > wanted);
                if over { high = middle } else { low = middle }
            }
            let found = margin(kind, low, decay);
            assert!((found - wanted).abs() < 1e-6, "{kind:?}, decay {decay}: {found} for {wanted}");
            assert_eq!(diverges(kind, low, decay), wanted > 1.0, "{kind:?}, decay {decay}, margin {found}");
        }
    }
}

/// The eigenvalue that the threshold is of, by LAPACK; of Adam's gradient, decay is a part.
fn largest(kind: OptimizerKind, decay: f64) -> f64 {
    let added = if matches!(kind, OptimizerKind::Adam { .. }) { decay } else { 0.0 };
    crate::dense::norm2(&matrix()) + added
}

/// Moments of which nothing fades while a test lasts, so that v̂ is the mean of the squares of the gradients so far.
const LASTING: f64 = 1.0 - 1e-9;

/// libtorch's Adam where P matters and the corrections have hardly begun. Two gradients set v, over three orders of magnitude,
/// and cancel in m; θ and all gradients that follow are so small that v stays. Then P ∝ t^{-1/2}, and η ∝ (1−β₁ᵗ) t^{-1/2}
/// has the same margin at each step.
struct Early {
    kind: OptimizerKind,
    /// The sum of the squared gradients.
    squares: Tensor,
    /// The largest eigenvalue of P^{-1/2} A P^{-1/2} at P = √squares.
    largest: f64,
}

impl Early {
    const BETA: f64 = 0.99;

    fn new(decoupled: bool) -> Self {
        let (betas, eps) = ((Self::BETA, LASTING), 0.0);
        let kind =
            if decoupled { OptimizerKind::AdamW { betas, eps } } else { OptimizerKind::Adam { betas, eps } };
        let first = Self::first();
        let squares = &first * &first * (1.0 + Self::BETA * Self::BETA);
        let root = squares.pow_tensor_scalar(-0.25);
        let largest = crate::dense::norm2(&(matrix() * root.unsqueeze(0) * root.unsqueeze(1)));
        Self { kind, squares, largest }
    }

    /// The first gradient.
    fn first() -> Tensor {
        (Tensor::arange(N, (Kind::Double, Device::Cpu)) * (-3.0 / (N - 1) as f64 * std::f64::consts::LN_10))
            .exp()
    }

    /// The learning rate that has this margin after `steps` steps.
    fn learning_rate(&self, margin: f64, steps: u64) -> f64 {
        let at_one = self.kind.threshold(1.0, 0.0, Some(steps)).unwrap();
        margin * at_one / (self.largest * (steps as f64).sqrt())
    }

    /// That of a probe after so many steps.
    fn margin(&self, learning_rate: f64, steps: u64) -> f64 {
        let theta = Normal::new(8).tensor(&[N], 1.0);
        let mut host = ClosureHost::new(quadratic(&matrix(), &theta), Kind::Double);
        let (kind, v) = (self.kind, &self.squares * (1.0 - LASTING));
        host.optimizer =
            Some(Optimizer { kind, learning_rate, weight_decay: vec![0.0], steps, second_moments: vec![v] });
        let toml = format!(
            "[slq]\nsteps = {N}\noperator = \"preconditioned\"\n[hvp]\ndifference = \"central\"\n[log]\ntensorboard = false\njsonl = false"
        );
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        probe.probe(0, &mut host).unwrap().preconditioned.as_ref().unwrap().stability.margin.unwrap()
    }

    /// The step after which θ is 10⁴ times as large as at first, or as small.
    fn run(&self, margin: f64) -> (u64, bool) {
        let matrix = matrix();
        let mut store = nn::VarStore::new(Device::Cpu);
        let theta = store.root().var_copy("theta", &Normal::new(8).tensor(&[N], 1e-12));
        store.double();
        let (beta1, beta2, eps) = (Self::BETA, LASTING, 0.0);
        let mut optimizer = match self.kind {
            OptimizerKind::Adam { .. } => {
                nn::Adam { beta1, beta2, wd: 0.0, eps, amsgrad: false }.build(&store, 0.0)
            }
            _ => nn::AdamW { beta1, beta2, wd: 0.0, eps, amsgrad: false }.build(&store, 0.0),
        }
        .unwrap();
        for scale in [1.0, -Self::BETA] {
            optimizer.backward_step(&(theta.dot(&Self::first()) * scale));
        }
        let size = || theta.detach().norm().double_value(&[]);
        let start = size();
        for step in 3..20_000 {
            optimizer.set_lr(self.learning_rate(margin, step));
            let loss = (&theta * matrix.mv(&theta)).sum(Kind::Double) * 0.5;
            optimizer.backward_step(&loss);
            let now = size() / start;
            if !(1e-4..1e4).contains(&now) {
                return (step, now > 1.0);
            }
        }
        panic!("it neither grows nor shrinks: {}", size() / start);
    }
}

#[test]
fn libtorch_s_adam_diverges_just_above_the_threshold_of_its_first_steps_and_converges_just_below() {
    for decoupled in [false, true] {
        let early = Early::new(decoupled);
        let p = early.squares.sqrt();
        assert!((p.max() / p.min()).double_value(&[]) > 900.0, "P matters");
        for wanted in [0.99, 1.01] {
            for steps in [3, 10, 50] {
                let found = early.margin(early.learning_rate(wanted, steps), steps);
                assert!((found - wanted).abs() < 1e-5, "{:?} after {steps} steps: {found}", early.kind);
            }
            let (step, grows) = early.run(wanted);
            assert_eq!(grows, wanted > 1.0, "{:?} at {wanted}, step {step}", early.kind);
            if grows {
                let correction = 1.0 - Early::BETA.powi(step as i32);
                assert!(correction < 0.6, "the first moment is still corrected: step {step}");
            }
        }
    }
}
