//! `[hvp]`: Hessian-vector products.

use crate::error::{Error, Result};
use crate::host::Precision;
use serde::{Deserialize, Serialize};

/// Hessian-vector products by gradient differences.
///
/// ```
/// use hessian_probe::ProbeConfig;
///
/// let config = ProbeConfig::from_toml_str("[hvp]\ndifference = \"central\"\nmax_relative_error = 0.005")?;
/// assert_eq!(config.hvp.difference, hessian_probe::config::Difference::Central);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HvpConfig {
    /// The difference formula.
    pub difference: Difference,
    /// In which precision the probe's gradients are computed.
    pub precision: Precision,
    /// How the step h is chosen.
    pub step_size: StepSize,
    /// The predicted relative error of Hv above which a product is computed again with a better step
    /// and, under `difference = "auto"`, forward differences give way to central ones.
    pub max_relative_error: f64,
    /// Every so many probes the noise of the gradient is measured anew.
    pub recalibrate_every: u64,
}

impl Default for HvpConfig {
    fn default() -> Self {
        Self {
            difference: Difference::Auto,
            precision: Precision::Loop,
            step_size: StepSize::Auto,
            max_relative_error: 0.02,
            recalibrate_every: 10,
        }
    }
}

/// The difference formula of a Hessian-vector product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// Forward where its predicted error allows it, central elsewhere.
    #[default]
    Auto,
    /// (g(θ + hv) − g(θ)) / h: one gradient, an error of first order in h.
    Forward,
    /// (g(θ + hv) − g(θ − hv)) / 2h: two gradients, an error of second order in h.
    Central,
    /// (8[g(θ + hv) − g(θ − hv)] − [g(θ + 2hv) − g(θ − 2hv)]) / 12h: four gradients, an error of fourth order
    /// in h.
    Central4,
    /// By differentiating twice, where the host offers it ([`Host::exact_hvp`](crate::Host::exact_hvp)).
    Exact,
}

/// How the step h is chosen, for a unit vector v.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepSize {
    /// For every vector, from what its own differences tell.
    #[default]
    Auto,
    /// h itself: `{ absolute = 1e-3 }`.
    Absolute(f64),
    /// h as a multiple of ‖θ‖: `{ relative = 1e-6 }`.
    Relative(f64),
}

impl HvpConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        if let StepSize::Absolute(h) | StepSize::Relative(h) = self.step_size
            && !(h.is_finite() && h > 0.0)
        {
            return Err(Error::config("hvp.step_size", format!("{h} is not a positive number")));
        }
        if !(self.max_relative_error > 0.0 && self.max_relative_error < 1.0) {
            return Err(Error::config(
                "hvp.max_relative_error",
                format!("{} is not between 0 and 1", self.max_relative_error),
            ));
        }
        if self.recalibrate_every == 0 {
            return Err(Error::config("hvp.recalibrate_every", "must be at least 1"));
        }
        Ok(())
    }
}
