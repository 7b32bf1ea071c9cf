//! What a snapshot keeps of the optimizer's view.

use super::loan::Optimizer;
use crate::spectrum::{Extreme, HvpReport, ProbeRecord};
use serde::{Deserialize, Serialize};

/// A curvature against the largest that the optimizer bears.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    /// [`OptimizerKind::name`](super::OptimizerKind::name).
    pub optimizer: String,
    /// η of the coming step.
    pub learning_rate: f64,
    /// t, the steps that the optimizer had taken.
    pub steps: u64,
    /// [`Optimizer::threshold`]: an eigenvalue above it makes the iteration on the quadratic model diverge. `None`
    /// where none does (η = 0).
    pub threshold: Option<f64>,
    /// The largest eigenvalue over the threshold: above 1 is unstable.
    pub margin: Option<f64>,
}

impl Stability {
    /// Of the largest eigenvalue of the operator that the threshold is of.
    pub(crate) fn new(optimizer: &Optimizer, largest: f64) -> Self {
        let threshold = optimizer.threshold();
        // A decay so large that nothing is stable leaves no ratio to tell.
        let positive = threshold.filter(|threshold| *threshold > 0.0);
        Self {
            optimizer: optimizer.kind.name().into(),
            learning_rate: optimizer.learning_rate,
            steps: optimizer.steps,
            threshold,
            margin: positive.map(|threshold| largest / threshold).filter(|margin| margin.is_finite()),
        }
    }
}

/// The spectrum of P^{-1/2} H P^{-1/2} on the parameters that the optimizer moves
/// ([`Preconditioner`](super::Preconditioner)), with P^{-1/2}(H + W)P^{-1/2} where weight decay W is part of the
/// gradient. Its unit is that of 1/η.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreconditionedSpectrum {
    /// The algebraically largest Ritz value.
    pub lambda_max: Extreme,
    /// The algebraically smallest one.
    pub lambda_min: Extreme,
    /// Parameters with a second moment: what the operator is on.
    pub moved: u64,
    /// `lambda_max` against its threshold.
    pub stability: Stability,
    /// The Lanczos runs; empty where they are the snapshot's own (`operator = "preconditioned"`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeRecord>,
    /// How their products went.
    pub products: HvpReport,
}
