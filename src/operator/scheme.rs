//! How one product is computed.

use serde::{Deserialize, Serialize};

/// The formula of one Hessian-vector product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// (g(θ + hv) − g(θ)) / h̄.
    Forward,
    /// (g(θ + hv) − g(θ − hv)) / 2h̄.
    Central,
    /// (8[g(θ + hv) − g(θ − hv)] − [g(θ + 2hv) − g(θ − 2hv)]) / 12h̄.
    Central4,
    /// By the host, differentiating twice.
    Exact,
}

impl Scheme {
    /// Whether the product sees g on both sides of θ, and so measures the parity ratio.
    #[must_use]
    pub fn is_two_sided(self) -> bool {
        matches!(self, Self::Central | Self::Central4)
    }

    /// Gradients of one product, g(θ) aside, which all of them share.
    #[must_use]
    pub fn gradients(self) -> u64 {
        match self {
            Self::Forward => 1,
            Self::Central => 2,
            Self::Central4 => 4,
            Self::Exact => 0,
        }
    }

    /// The noise of the quotient times h̄/η: the norm of the formula's weights over its denominator.
    #[must_use]
    pub fn noise_factor(self) -> f64 {
        match self {
            Self::Forward => std::f64::consts::SQRT_2,
            Self::Central => std::f64::consts::FRAC_1_SQRT_2,
            Self::Central4 => 130.0_f64.sqrt() / 12.0,
            Self::Exact => 0.0,
        }
    }

    /// The predicted relative truncation error goes with this power of the step.
    #[must_use]
    pub fn order(self) -> i32 {
        match self {
            Self::Forward => 1,
            Self::Central => 2,
            Self::Central4 => 4,
            Self::Exact => 0,
        }
    }

    /// The predicted relative truncation error at parity ratio p: p, p², 4p⁴, or none.
    ///
    /// For a gradient whose Taylor coefficients along v go like those of 1/(1 − x), x = p, these are the
    /// leading terms: x, x² and 4x⁴.
    #[must_use]
    pub fn truncation(self, parity: f64) -> f64 {
        match self {
            Self::Forward => parity,
            Self::Central => parity.powi(2),
            Self::Central4 => 4.0 * parity.powi(4),
            Self::Exact => 0.0,
        }
    }
}
