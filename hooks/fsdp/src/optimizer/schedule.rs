//! The learning rate as a function of the step.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A factor in `[0, 1]` on the optimizer's learning rate.
///
/// ```
/// use hessian_probe_fsdp::LearningRate;
///
/// let schedule = LearningRate::Cosine { warmup_steps: 10, total_steps: 110, min_ratio: 0.1 };
/// assert_eq!(schedule.factor(0), 0.1); // 1/10 of the warm-up
/// assert_eq!(schedule.factor(9), 1.0);
/// assert!((schedule.factor(60) - 0.55).abs() < 1e-12); // half-way down to 0.1
/// assert_eq!(schedule.factor(1000), 0.1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum LearningRate {
    /// Linear warm-up to 1 over `warmup_steps`, then 1.
    Constant {
        /// Step `s < warmup_steps` has the factor `(s + 1) / warmup_steps`.
        #[serde(default)]
        warmup_steps: u64,
    },
    /// Linear warm-up, then half a cosine from 1 down to `min_ratio` at `total_steps`, then that
    /// (Loshchilov, Hutter, *SGDR*, 2017).
    Cosine {
        /// Step `s < warmup_steps` has the factor `(s + 1) / warmup_steps`.
        #[serde(default)]
        warmup_steps: u64,
        /// The step at which the factor has come down to `min_ratio`.
        total_steps: u64,
        /// The last factor.
        #[serde(default)]
        min_ratio: f64,
    },
}

impl Default for LearningRate {
    fn default() -> Self {
        Self::Constant { warmup_steps: 0 }
    }
}

impl LearningRate {
    /// The factor at `step`, counted from 0.
    #[must_use]
    pub fn factor(&self, step: u64) -> f64 {
        match *self {
            Self::Constant { warmup_steps } | Self::Cosine { warmup_steps, .. } if step < warmup_steps => {
                (step + 1) as f64 / warmup_steps as f64
            }
            Self::Constant { .. } => 1.0,
            Self::Cosine { warmup_steps, total_steps, min_ratio } => {
                if step >= total_steps {
                    return min_ratio;
                }
                let done = (step - warmup_steps) as f64 / (total_steps - warmup_steps) as f64;
                min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }

    /// How long training is meant to take, where the schedule says so.
    #[must_use]
    pub fn total_steps(&self) -> Option<u64> {
        match *self {
            Self::Constant { .. } => None,
            Self::Cosine { total_steps, .. } => Some(total_steps),
        }
    }

    /// Checks that the warm-up ends before the end and that the last factor is one.
    ///
    /// # Errors
    /// [`Error::Config`] with the key at fault.
    pub fn validate(&self) -> Result<()> {
        if let Self::Cosine { warmup_steps, total_steps, min_ratio } = *self {
            if warmup_steps >= total_steps {
                let reason = format!("is {warmup_steps}, must be less than total_steps = {total_steps}");
                return Err(Error::config("schedule.warmup_steps", reason));
            }
            if !(0.0..=1.0).contains(&min_ratio) {
                return Err(Error::config(
                    "schedule.min_ratio",
                    format!("is {min_ratio}, must be in [0, 1]"),
                ));
            }
        }
        Ok(())
    }
}
