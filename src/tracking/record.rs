//! What tracking finds.

use crate::config::SpectrumOf;
use crate::optimizer::Stability;
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
    /// |⟨y, ∇L⟩| / ‖∇L‖: how much of the gradient lies along it; of P^{-1/2}∇L for the preconditioned operator, whose
    /// vectors are in the coordinates P^{1/2}θ. `None` where the gradient vanishes.
    pub gradient_overlap: Option<f64>,
    /// `lambda_max` against what the host's optimizer bears, where that is of the same operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<Stability>,
    /// Of which operator: H, or P^{-1/2} H P^{-1/2} where `slq.operator` asks for it.
    #[serde(default, skip_serializing_if = "SpectrumOf::is_hessian")]
    pub operator: SpectrumOf,
    /// Gradients computed.
    pub gradients: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}
