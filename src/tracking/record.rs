//! What tracking finds.

use crate::spectrum::Extreme;
use serde::{Deserialize, Serialize};

/// λ_max at one step, from a few products.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tracked {
    /// The optimizer step after which it was measured, counted from 0.
    pub step: u64,
    /// Seconds since 1970-01-01 UTC.
    pub unix_time: f64,
    /// The probe loss at the unperturbed parameters.
    pub loss: f64,
    /// ‖∇L‖ there.
    pub gradient_norm: f64,
    /// The largest Ritz value of the short run: a lower bound of λ_max but for `hvp_error`, and within
    /// `residual` of an eigenvalue.
    pub lambda_max: Extreme,
    /// |⟨y, y′⟩| of the Ritz vector with the last one, which the run started from; `None` after a random start.
    pub overlap: Option<f64>,
    /// |⟨y, ∇L⟩| / ‖∇L‖: how much of the gradient lies along it. `None` where the gradient vanishes.
    pub gradient_overlap: Option<f64>,
    /// Gradients computed.
    pub gradients: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}
