//! `[directions]`.

use serde::{Deserialize, Serialize};

/// Curvature along directions, in every snapshot; off by default.
///
/// ```
/// use hessian_probe::ProbeConfig;
///
/// let config = ProbeConfig::from_toml_str("[directions]\ngradient = true")?;
/// assert!(config.directions.is_on() && !config.directions.update);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DirectionsConfig {
    /// Along the gradient of the probe loss: one product.
    pub gradient: bool,
    /// Along the optimizer's update, where the host lends it, with the predicted and the measured change of the loss: one
    /// product and two forward passes, and one vector more in memory.
    pub update: bool,
}

impl DirectionsConfig {
    /// Whether anything is asked for.
    #[must_use]
    pub fn is_on(self) -> bool {
        self.gradient || self.update
    }

    /// For serde.
    pub(crate) fn is_off(&self) -> bool {
        !self.is_on()
    }
}
