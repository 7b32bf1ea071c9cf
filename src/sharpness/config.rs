//! `[sharpness]`.

use crate::error::{Error, Result};
use crate::schedule::Duration;
use serde::{Deserialize, Serialize};

/// The fewest passes that can find a bracket, and the most that a number for every step may take.
const PASSES: std::ops::RangeInclusive<u64> = 3..=8;

/// Critical sharpness at its own steps; off by default. It keeps one vector of the size of the shards while it is measured,
/// beside θ.
///
/// ```
/// use hessian_probe::ProbeConfig;
///
/// let config = ProbeConfig::from_toml_str("[sharpness]\nevery = 1\npasses = 6")?;
/// assert_eq!(config.sharpness.passes, 6);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharpnessConfig {
    /// So often, before the optimizer's step where the loop calls
    /// [`on_before_optimizer_step`](crate::Callback::on_before_optimizer_step), else after it. With `budget.max_overhead`, less
    /// often where that would take more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// Forward passes each time, 3 to 8; that at θ is one of them.
    pub passes: u64,
    /// The relative width of the bracket at which the search ends before them.
    pub tolerance: f64,
}

impl Default for SharpnessConfig {
    fn default() -> Self {
        Self { every: None, passes: *PASSES.end(), tolerance: 0.02 }
    }
}

impl SharpnessConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        if self.every.is_some_and(Duration::is_zero) {
            let reason = "must be more than 0; leave it out to measure no critical sharpness";
            return Err(Error::config("sharpness.every", reason));
        }
        if !PASSES.contains(&self.passes) {
            let reason = format!("{} is not one of {} to {}", self.passes, PASSES.start(), PASSES.end());
            return Err(Error::config("sharpness.passes", reason));
        }
        if !(self.tolerance > 0.0 && self.tolerance < 1.0) {
            let reason = format!("{} is not between 0 and 1", self.tolerance);
            return Err(Error::config("sharpness.tolerance", reason));
        }
        Ok(())
    }

    /// For serde: a configuration that does not mention it is written as before it could.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
