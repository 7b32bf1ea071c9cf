//! Records for unit tests.

use super::record::{Record, Session, Skipped};
use crate::blocks::{AlongGradient, BlockDiagonal, BlockRecord, Comparison};
use crate::cost::Parts;
use crate::directions::{Along, AlongUpdate, Directions};
use crate::optimizer::{PreconditionedSpectrum, Stability};
use crate::sharpness::CriticalSharpness;
use crate::spectrum::{
    Cost, Estimate, Extreme, HvpReport, ProbeRecord, SNAPSHOT_VERSION, Snapshot, Unresolved,
};

pub(super) fn session(start_step: u64) -> Record {
    Record::Session(Session {
        start_step,
        world_size: 2,
        parameters: 1_000_000,
        config: "[slq]\nsteps = 20\n".into(),
    })
}

pub(super) fn skipped(step: u64, reason: &str) -> Record {
    Record::Skipped(Skipped { step, reason: reason.into() })
}

pub(super) fn sharpness(step: u64) -> CriticalSharpness {
    CriticalSharpness {
        step,
        unix_time: 1_700_000_001.25,
        coming: true,
        loss: 2.5,
        update_norm: 0.125,
        multiple: Some(2.5),
        error: Some(0.02),
        lower: Some(2.48),
        upper: Some(2.51),
        step_ratio: Some(0.4),
        learning_rate: Some(1e-2),
        sharpness: Some(80.0),
        realised: 1.0,
        passes: 6,
        seconds: 0.25,
        share: Some(0.125),
    }
}

pub(super) fn snapshot_record(step: u64) -> Record {
    Record::Snapshot(Box::new(snapshot(step)))
}

/// Two probes that see a bulk at zero, a little below it, and one outlier of weight 10⁻⁶.
pub(super) fn snapshot(step: u64) -> Snapshot {
    let estimate = |mean: f64| Estimate { mean, standard_error: Some(mean.abs() / 10.0) };
    let probe = |index| ProbeRecord {
        index,
        alpha: vec![0.0, 1.0, 12.0],
        beta: vec![0.5, 0.25, 1e-3],
        nodes: vec![-0.1, 1e-4, 12.5],
        weights: vec![0.25, 0.749_999, 1e-6],
        residuals: vec![1e-3, 1e-3, 1e-9],
        hvp_errors: vec![1e-3, 1e-3, 1e-3],
        breakdown: None,
        ..ProbeRecord::default()
    };
    Snapshot {
        version: SNAPSHOT_VERSION,
        step,
        unix_time: 1_700_000_000.5,
        world_size: 2,
        parameters: 1_000_000,
        tokens: Some(4096),
        seed: 17,
        loss: 2.5,
        gradient_norm: 0.75,
        parameter_norm: 31.0,
        lambda_max: Extreme { value: 12.5, residual: 1.001e-3, lanczos_residual: 1e-6, hvp_error: 1e-3 },
        lambda_min: Extreme { value: -0.1, residual: 2e-3, lanczos_residual: 1e-3, hvp_error: 1e-3 },
        trace: estimate(150.0),
        mean_eigenvalue: estimate(1.5e-4),
        frobenius_norm: estimate(20.0),
        negative_share: estimate(0.25),
        negative_share_resolved: estimate(0.2),
        effective_rank: Some(estimate(56.0)),
        stable_rank: Some(estimate(2.6)),
        spectral_entropy: Some(estimate(3.0)),
        unresolved: Unresolved { floor: 1e-3, mass: estimate(0.75) },
        block_diagonal: None,
        operator: crate::config::SpectrumOf::Hessian,
        stability: None,
        preconditioned: None,
        directions: None,
        warnings: Vec::new(),
        probes: vec![probe(0), probe(1)],
        hvp: HvpReport {
            forward: 5,
            central: 1,
            redone: 1,
            redone_gradients: 2,
            step_min: 1e-3,
            step_max: 2e-3,
            predicted_error_median: 1e-4,
            predicted_error_worst: 1e-3,
            parity_median: 0.01,
            parity_worst: 0.02,
            rounding_worst: 1e-5,
            gradient_noise: 1e-7,
            gradient_repeats: Some(true),
            ..HvpReport::default()
        },
        cost: Cost {
            seconds: 1.5,
            gradient_seconds: 1.25,
            communication_seconds: 0.125,
            gradients: 9,
            calibration_gradients: 2,
            all_reduces: 14,
            reduced_values: 28,
            basis_bytes: 8_000_000,
            vector_bytes: 16_000_000,
            peak_memory_bytes: Some(1_500_000_000),
            parts: Parts {
                gradients: 1.25,
                all_reduces: 0.125,
                products: 0.0625,
                other: 0.0625,
                ..Parts::default()
            },
        },
    }
}

/// The same with an adaptive optimizer.
pub(super) fn snapshot_with_optimizer(step: u64) -> Snapshot {
    let extreme = |value: f64| Extreme { value, residual: 0.5, lanczos_residual: 0.25, hvp_error: 0.25 };
    let preconditioned = PreconditionedSpectrum {
        lambda_max: extreme(950.0),
        lambda_min: extreme(-20.0),
        moved: 999_000,
        stability: Stability {
            optimizer: "adamw".into(),
            learning_rate: 2e-2,
            steps: 400,
            threshold: Some(1900.0),
            margin: Some(0.5),
        },
        probes: Vec::new(),
        products: HvpReport::default(),
    };
    let along = Along { norm: 0.5, slope: -0.25, curvature: 4.0, error: 0.125, product_norm: 5.0 };
    let update =
        AlongUpdate { coming: false, along, predicted_change: 0.375, measured_change: 0.5, realised: 1.0 };
    let directions = Some(Directions { gradient: Some(along), update: Some(update) });
    Snapshot { preconditioned: Some(preconditioned), directions, ..snapshot(step) }
}

/// The same with two blocks.
pub(super) fn snapshot_with_blocks(step: u64) -> Snapshot {
    let estimate = |mean: f64| Some(Estimate { mean, standard_error: Some(mean.abs() / 16.0) });
    let extreme =
        |value: f64| Some(Extreme { value, residual: 0.5, lanczos_residual: 0.25, hvp_error: 0.25 });
    let block = |name: &str, trace: f64| BlockRecord {
        name: name.into(),
        parameters: 500_000,
        trace: Estimate { mean: trace, standard_error: Some(1.0) },
        frobenius_norm: estimate(10.0),
        share: estimate(0.375),
        trace_share: estimate(0.5),
        predicted_error: 1e-3,
        lambda_max: extreme(8.0),
        lambda_min: extreme(-2.0),
        spectrum: None,
    };
    let block_diagonal = BlockDiagonal {
        method: "exact".into(),
        vectors: 4,
        draws: 0,
        relative_error: estimate(0.5),
        cosine: estimate(0.875),
        off_diagonal_share: estimate(0.25),
        draw_spread: None,
        gradient: Some(AlongGradient {
            draws: 0,
            relative_error: estimate(0.125),
            cosine: estimate(0.75),
            predicted_error: 1e-3,
        }),
        blocks: vec![block("layers.0", 20.0), block("layers.1", 40.0)],
        comparisons: vec![Comparison { product_squared: 4.0, inner_product: 3.0, block_squared: 3.0 }],
        predicted_error: 1e-3,
        hvps: 15,
        products: HvpReport::default(),
        left_out: vec!["the spectra of 1 of 3 blocks, the smallest".into()],
    };
    Snapshot { block_diagonal: Some(block_diagonal), ..snapshot(step) }
}
