//! What a loop tells of its optimizer.

use crate::host::Shard;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The update rule and its constants, in PyTorch's formulas. g is the gradient of the loss at θ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OptimizerKind {
    /// g ← g + wθ; b ← μb + (1−τ)g; θ ← θ − ηb, or θ ← θ − η(g + μb) with Nesterov's momentum.
    Sgd {
        /// μ, in `[0, 1)`; 0: plain gradient descent.
        momentum: f64,
        /// τ, in `[0, 1)`; 0 in most loops.
        dampening: f64,
        /// Whether the step looks ahead.
        nesterov: bool,
    },
    /// g ← g + wθ; m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; θ ← θ − η m̂ / (√v̂ + ε), with m̂ = m/(1−β₁ᵗ) and
    /// v̂ = v/(1−β₂ᵗ).
    Adam {
        /// (β₁, β₂), each in `[0, 1)`.
        betas: (f64, f64),
        /// ε, outside the root.
        eps: f64,
    },
    /// As [`Adam`](Self::Adam), with decay that bypasses the moments: g is left alone, and θ ← (1−ηw)θ.
    AdamW {
        /// (β₁, β₂), each in `[0, 1)`.
        betas: (f64, f64),
        /// ε, outside the root.
        eps: f64,
    },
}

impl OptimizerKind {
    /// The name in records: `sgd`, `adam`, `adamw`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Adam { .. } => "adam",
            Self::AdamW { .. } => "adamw",
        }
    }

    /// (β₁, β₂) and ε of a rule that divides by second moments.
    #[must_use]
    pub fn adaptive(self) -> Option<((f64, f64), f64)> {
        match self {
            Self::Sgd { .. } => None,
            Self::Adam { betas, eps } | Self::AdamW { betas, eps } => Some((betas, eps)),
        }
    }
}

/// The optimizer of a loop as it stands: what [`Host::optimizer`](crate::Host::optimizer) lends. Tensors are the loop's
/// own (aliases), read while the loan lasts and never written.
///
/// ```
/// use hessian_probe::{Optimizer, OptimizerKind};
///
/// // What a loop on SGD with momentum lends: gradient descent with η bears 2/η, and with μ = 0.9 nearly twice that.
/// let optimizer = Optimizer {
///     kind: OptimizerKind::Sgd { momentum: 0.9, dampening: 0.0, nesterov: false },
///     learning_rate: 0.1,
///     weight_decay: Vec::new(),
///     steps: 400,
///     second_moments: Vec::new(),
/// };
/// assert!((optimizer.threshold().unwrap() - 38.0).abs() < 1e-9);
/// ```
#[derive(Debug)]
pub struct Optimizer {
    /// The rule.
    pub kind: OptimizerKind,
    /// η of the coming step, schedule included.
    pub learning_rate: f64,
    /// w for each shard, aligned with [`Host::shards`](crate::Host::shards); empty where nothing decays.
    pub weight_decay: Vec<f64>,
    /// t, the steps taken so far: what the bias corrections of the moments refer to.
    pub steps: u64,
    /// v for each shard, as it is kept (not corrected), with as many entries as the shard and of any floating-point
    /// type; empty where the rule has none, or none yet.
    pub second_moments: Vec<Tensor>,
}

impl Optimizer {
    /// The same tensors by other handles: what a host lends of an optimizer that it keeps.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            weight_decay: self.weight_decay.clone(),
            second_moments: self.second_moments.iter().map(Tensor::shallow_clone).collect(),
            ..*self
        }
    }

    /// The largest weight decay of any parameter.
    #[must_use]
    pub fn largest_decay(&self) -> f64 {
        self.weight_decay.iter().copied().fold(0.0, f64::max)
    }

    /// [`OptimizerKind::threshold`] with these settings, and the largest decay where it enters: the smallest threshold
    /// of any parameter, which is exact where all decay alike.
    #[must_use]
    pub fn threshold(&self) -> Option<f64> {
        self.kind.threshold(self.learning_rate, self.largest_decay(), Some(self.steps))
    }

    /// What is wrong with the loan, for shards like these.
    pub(crate) fn fault(&self, shards: &[Shard]) -> Option<String> {
        let unit = |value: f64| (0.0..1.0).contains(&value);
        let sound = match self.kind {
            OptimizerKind::Sgd { momentum, dampening, .. } => unit(momentum) && unit(dampening),
            OptimizerKind::Adam { betas, eps } | OptimizerKind::AdamW { betas, eps } => {
                unit(betas.0) && unit(betas.1) && eps.is_finite() && eps >= 0.0
            }
        };
        let at_least_0 = |value: f64| value.is_finite() && value >= 0.0;
        if !sound || !at_least_0(self.learning_rate) || !self.weight_decay.iter().all(|&w| at_least_0(w)) {
            return Some(format!(
                "its settings are impossible: {:?}, learning rate {}, weight decay {:?}",
                self.kind,
                self.learning_rate,
                self.largest_decay()
            ));
        }
        if !self.weight_decay.is_empty() && self.weight_decay.len() != shards.len() {
            return Some(format!(
                "it has {} weight decays for {} shards",
                self.weight_decay.len(),
                shards.len()
            ));
        }
        if self.second_moments.is_empty() {
            return None;
        }
        if self.second_moments.len() != shards.len() {
            return Some(format!(
                "it has second moments of {} shards, of {}",
                self.second_moments.len(),
                shards.len()
            ));
        }
        let misfit = shards.iter().zip(&self.second_moments).find(|(shard, moment)| {
            shard.tensor.numel() != moment.numel() || shard.tensor.device() != moment.device()
        });
        misfit.map(|(shard, moment)| {
            format!(
                "its second moments of `{}` are {} entries on {:?} for a shard of {} on {:?}",
                shard.name,
                moment.numel(),
                moment.device(),
                shard.tensor.numel(),
                shard.tensor.device()
            )
        })
    }
}
