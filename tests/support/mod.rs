//! What several tests need.

use hessian_probe::blocks::{AlongGradient, BlockDiagonal, BlockRecord, Comparison};
use hessian_probe::cost::Parts;
use hessian_probe::directions::{Along, AlongUpdate, Directions};
use hessian_probe::optimizer::{PreconditionedSpectrum, Stability};
use hessian_probe::spectrum::{
    Cost, Estimate, Extreme, HvpReport, ProbeRecord, SNAPSHOT_VERSION, Snapshot, Unresolved,
};

/// A snapshot as a language model of `parameters` parameters might give it: most of the mass about
/// zero, a tail of positive outliers, a few negative Ritz values. It depends on `step` alone, a little.
pub fn snapshot(step: u64, parameters: u64, probes: u64) -> Snapshot {
    let mut random = Random(step.wrapping_mul(0x9e37_79b9) ^ 0x5eed);
    let n = parameters as f64;
    let probes: Vec<ProbeRecord> = (0..probes).map(|index| probe(index, n, &mut random)).collect();
    let one = probes.len() < 2;
    let mut estimate = |mean: f64| Estimate {
        mean,
        standard_error: (!one).then(|| mean.abs() * 0.02 * (1.0 + random.next())),
    };
    let lambda_max = probes.iter().flat_map(|p| &p.nodes).copied().fold(f64::MIN, f64::max);
    let lambda_min = probes.iter().flat_map(|p| &p.nodes).copied().fold(f64::MAX, f64::min);
    let extreme = |value: f64| {
        let (lanczos_residual, hvp_error) = (1e-4 * value.abs(), 3e-5 * lambda_max);
        Extreme { value, residual: lanczos_residual + hvp_error, lanczos_residual, hvp_error }
    };
    let trace = 1.4 * lambda_max;
    Snapshot {
        version: SNAPSHOT_VERSION,
        step,
        unix_time: 1_750_000_000.25 + step as f64,
        world_size: 2,
        parameters,
        tokens: Some(8192),
        seed: 42,
        loss: 10.8 / (1.0 + 0.01 * step as f64),
        gradient_norm: 1.7,
        parameter_norm: 91.5,
        lambda_max: extreme(lambda_max),
        lambda_min: extreme(lambda_min),
        trace: estimate(trace),
        mean_eigenvalue: estimate(trace / n),
        frobenius_norm: estimate(1.2 * lambda_max),
        negative_share: estimate(0.41),
        negative_share_resolved: estimate(0.07),
        effective_rank: Some(estimate(212.0)),
        stable_rank: Some(estimate(1.44)),
        spectral_entropy: Some(estimate(5.9)),
        unresolved: Unresolved { floor: 3e-5 * lambda_max, mass: estimate(0.63) },
        block_diagonal: None,
        operator: hessian_probe::config::SpectrumOf::Hessian,
        stability: None,
        preconditioned: None,
        directions: None,
        warnings: vec!["a warning".into()],
        hvp: HvpReport {
            forward: 30,
            central: 10,
            redone: 1,
            redone_gradients: 2,
            step_min: 4e-4,
            step_max: 3e-2,
            predicted_error_median: 8e-4,
            predicted_error_worst: 9e-3,
            parity_median: 0.012,
            parity_worst: 0.21,
            rounding_worst: 2e-4,
            gradient_noise: 6e-7,
            gradient_repeats: Some(true),
            component_noise: Some(2e-9),
            repeat_difference: Some(0.0),
            asymmetry: Some(3e-5),
            central4: 0,
            exact: 0,
        },
        cost: Cost {
            seconds: 3.25,
            gradient_seconds: 3.0,
            communication_seconds: 0.0625,
            gradients: 53,
            calibration_gradients: 3,
            all_reduces: 81,
            reduced_values: 162,
            basis_bytes: 20 * 4 * parameters / 2,
            vector_bytes: 4 * 4 * parameters / 2,
            peak_memory_bytes: Some(3_000_000_000),
            parts: Parts {
                gradients: 3.0,
                all_reduces: 0.0625,
                lanczos: 0.125,
                other: 0.0625,
                ..Parts::default()
            },
        },
        probes,
    }
}

/// What an adaptive optimizer sees, and what is along its update.
pub fn with_optimizer(snapshot: Snapshot) -> Snapshot {
    let extreme = |value: f64| Extreme { value, residual: 0.7, lanczos_residual: 0.3, hvp_error: 0.4 };
    let along = Along { norm: 0.03, slope: -1.6, curvature: 12.5, error: 0.25, product_norm: 14.0 };
    let update = AlongUpdate {
        coming: false,
        along,
        predicted_change: -0.042,
        measured_change: -0.041,
        realised: 1.0,
    };
    Snapshot {
        preconditioned: Some(PreconditionedSpectrum {
            lambda_max: extreme(2100.0),
            lambda_min: extreme(-310.0),
            moved: 123_000_000,
            stability: Stability {
                optimizer: "adamw".into(),
                learning_rate: 1e-2,
                steps: 500,
                threshold: Some(3799.9),
                margin: Some(2100.0 / 3799.9),
            },
            probes: Vec::new(),
            products: HvpReport::default(),
        }),
        directions: Some(Directions { gradient: Some(along), update: Some(update) }),
        ..snapshot
    }
}

/// Two blocks.
pub fn block_diagonal() -> BlockDiagonal {
    let estimate = |mean: f64| Some(Estimate { mean, standard_error: Some(0.03 * mean.abs()) });
    let extreme = |value: f64| Some(Extreme { value, residual: 0.3, lanczos_residual: 0.1, hvp_error: 0.2 });
    let block = |name: &str, trace: f64| BlockRecord {
        name: name.into(),
        parameters: 62_000_000,
        trace: Estimate { mean: trace, standard_error: Some(1.5) },
        frobenius_norm: estimate(0.7 * trace),
        share: estimate(0.004 * trace),
        trace_share: estimate(0.01 * trace),
        predicted_error: 3e-4,
        lambda_max: extreme(0.2 * trace),
        lambda_min: extreme(-0.1 * trace),
        spectrum: None,
    };
    BlockDiagonal {
        method: "stochastic".into(),
        vectors: 4,
        draws: 8,
        relative_error: estimate(0.31),
        cosine: estimate(0.93),
        off_diagonal_share: estimate(0.0961),
        draw_spread: Some(0.4),
        gradient: Some(AlongGradient {
            draws: 0,
            relative_error: estimate(0.2),
            cosine: estimate(0.97),
            predicted_error: 1e-3,
        }),
        blocks: vec![
            BlockRecord { spectrum: Some(probe(0, 62e6, &mut Random(5))), ..block("layers.0", 40.0) },
            block("other things", 60.0),
        ],
        comparisons: vec![Comparison { product_squared: 4.0, inner_product: 3.5, block_squared: 3.6 }; 4],
        predicted_error: 2e-3,
        hvps: 59,
        products: HvpReport::default(),
        left_out: Vec::new(),
    }
}

fn probe(index: u64, n: f64, random: &mut Random) -> ProbeRecord {
    let outliers = (0..20).map(|i| 40.0 * 10_f64.powf(-0.45 * f64::from(i)));
    let mut nodes: Vec<f64> =
        outliers.chain([-0.8, -0.03, -2e-4]).map(|node| node * (0.9 + 0.2 * random.next())).collect();
    nodes.sort_by(f64::total_cmp);
    let mut weights: Vec<f64> = nodes.iter().map(|node| 1.0 / n + 1.0 / (1.0 + 1e6 * node.abs())).collect();
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
    let steps = nodes.len();
    ProbeRecord {
        index,
        alpha: (0..steps).map(|_| random.next()).collect(),
        beta: (0..steps).map(|_| random.next()).collect(),
        residuals: nodes.iter().map(|node| 1e-4 * node.abs()).collect(),
        hvp_errors: vec![1.2e-3; steps],
        nodes,
        weights,
        breakdown: None,
        orthogonality_defect: Some(3e-7),
        reorthogonalized: steps,
        ghosts: None,
        deflated: Vec::new(),
    }
}

/// Numbers that need not be good, only the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
