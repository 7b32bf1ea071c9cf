//! Thresholds against libtorch's own optimizers: what a probe calls unstable diverges, and what it calls stable does not.
//! (`hooks/fsdp` has the same for its sharded AdamW, with second moments that matter.)

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
