//! What is found, for a file: versioned, one record for each host.

use super::{DirectionKind, ReferenceRecord};
use crate::config::HvpConfig;
use crate::operator::Scheme;
use serde::{Deserialize, Serialize};

/// The version of [`Regime`]: it changes when a field changes its meaning.
pub const REGIME_VERSION: u32 = 1;

/// One host against the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regime {
    /// [`REGIME_VERSION`].
    pub version: u32,
    /// What the caller calls the host: `f32`, `bf16-compute`.
    pub name: String,
    /// n.
    pub parameters: u64,
    /// The unit roundoff of the parameters as the forward pass uses them: 2⁻²⁴ for f32, 2⁻⁸ for bf16.
    pub unit_roundoff: f64,
    /// The loss at θ.
    pub loss: f64,
    /// ‖g‖ at θ.
    pub gradient_norm: f64,
    /// ‖θ‖.
    pub parameter_norm: f64,
    /// ‖g − g_reference‖ / ‖g_reference‖; none where the reference's gradient is 0.
    pub gradient_error: Option<f64>,
    /// The noise of one gradient.
    pub noise: NoiseRecord,
    /// The products along each vector.
    pub directions: Vec<DirectionRecord>,
    /// Lanczos runs, one for each of [`RegimesConfig::runs`](super::RegimesConfig::runs).
    pub runs: Vec<RunRecord>,
    /// The reference that all of this is against.
    pub reference: ReferenceRecord,
    /// All gradients at this host.
    pub gradients: u64,
    /// Seconds in gradients and the rest at this host.
    pub seconds: f64,
}

/// The noise of one gradient, as a probe measures it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoiseRecord {
    /// η, the norm of the noise, in units of the gradient.
    pub gradient: f64,
    /// The noise of ⟨g, v⟩ for a random unit vector v, by ECNoise; none where it did not settle.
    pub component: Option<f64>,
    /// Whether two gradients at the same parameters had the same bits.
    pub repeats: Option<bool>,
    /// The norm of the difference of two such gradients.
    pub repeat_difference: Option<f64>,
    /// |uᵀHv − vᵀHu| / (‖Hu‖‖v‖) for two random unit vectors.
    pub asymmetry: Option<f64>,
}

/// Products along one unit vector v.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DirectionRecord {
    /// Which vector.
    pub direction: DirectionKind,
    /// ‖Hv‖ of the reference.
    pub norm: f64,
    /// vᵀHv of the reference.
    pub curvature: f64,
    /// The estimated relative error of the reference's Hv: true errors below it are not resolved.
    pub reference_error: f64,
    /// The sweep, h ascending.
    pub rows: Vec<SweepRow>,
    /// The central difference of the smallest true error on the sweep; none where all failed.
    pub best: Option<Best>,
    /// What `step_size = "auto"` chooses for central differences when it looks for the best step.
    pub automatic: Choice,
    /// What the first of the configured runs chooses, which stops looking at its `max_relative_error`.
    pub configured: Choice,
}

/// Products with one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepRow {
    /// h.
    pub step: f64,
    /// (g(θ+hv) − g(θ−hv)) / 2h̄.
    pub central: Option<SweepPoint>,
    /// (g(θ+hv) − g(θ)) / h̄, with the parity ratio that the central difference measured.
    pub forward: Option<SweepPoint>,
    /// Why there is no product: the step moves no parameter, or the gradient is not finite that far away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// One product.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// The true relative error, ‖w − Hv‖ / ‖Hv‖.
    pub error: f64,
    /// The predicted relative error.
    pub predicted: f64,
    /// h̄, the realised step.
    pub realised: f64,
    /// ρ, the relative part of the displacement that is not along v.
    pub rounding: f64,
    /// p, the parity ratio.
    pub parity: f64,
    /// vᵀw.
    pub curvature: f64,
}

/// The best of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// h.
    pub step: f64,
    /// The true relative error.
    pub error: f64,
}

/// A product whose step was chosen automatically, from nothing known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The formula.
    pub scheme: Scheme,
    /// h.
    pub step: f64,
    /// The true relative error.
    pub error: f64,
    /// The predicted relative error.
    pub predicted: f64,
    /// Gradients spent, those of steps that were given up included.
    pub gradients: u64,
    /// The true error over the best of the sweep.
    pub ratio: Option<f64>,
}

/// What is compared of a Lanczos run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The diagonal of T.
    pub alpha: Vec<f64>,
    /// The off-diagonal of T, and β_m.
    pub beta: Vec<f64>,
    /// The largest Ritz value.
    pub lambda_max: f64,
    /// The smallest Ritz value.
    pub lambda_min: f64,
    /// Σ τθ.
    pub first_moment: f64,
    /// Σ τθ².
    pub second_moment: f64,
    /// max|QᵀQ − I|.
    pub orthogonality_defect: Option<f64>,
    /// The steps after which the Krylov space was invariant, if it was.
    pub breakdown: Option<usize>,
    /// The largest predicted relative error of its products.
    pub predicted_error: f64,
    /// Their median one: by it a probe judges whether its spectrum is to be trusted.
    #[serde(default)]
    pub predicted_error_median: f64,
    /// Gradients spent on its products.
    pub gradients: u64,
}

/// A run against the reference's from the same start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// How its products were computed.
    pub hvp: HvpConfig,
    /// What it found.
    pub run: RunSummary,
    /// |α_j − α_j'| over the largest |α|, |β| of the reference, for each step that both have.
    pub alpha_deviation: Vec<f64>,
    /// The same for β.
    pub beta_deviation: Vec<f64>,
    /// λ_max, relative to the largest |λ| of the reference.
    pub lambda_max: Compared,
    /// λ_min, relative to the largest |λ| of the reference.
    pub lambda_min: Compared,
    /// Σ τθ, relative to the reference's.
    pub first_moment: Compared,
    /// Σ τθ², relative to the reference's.
    pub second_moment: Compared,
    /// Products that were computed again.
    pub redone: u64,
}

impl RunRecord {
    /// The largest deviation of an α or a β.
    #[must_use]
    pub fn worst_deviation(&self) -> f64 {
        self.alpha_deviation.iter().chain(&self.beta_deviation).copied().fold(0.0, f64::max)
    }
}

/// A number and how far it is from the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// As found.
    pub value: f64,
    /// The reference's.
    pub reference: f64,
    /// (value − reference) over a scale; none where that is 0.
    pub deviation: Option<f64>,
}

impl Compared {
    pub(super) fn new(value: f64, reference: f64, scale: f64) -> Self {
        Self { value, reference, deviation: (scale != 0.0).then(|| (value - reference) / scale.abs()) }
    }
}
