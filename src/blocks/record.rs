//! What a measurement found.

use crate::spectrum::{Estimate, Extreme, HvpReport, ProbeRecord};
use serde::{Deserialize, Serialize};

/// How much of H is block-diagonal, and what its diagonal blocks are like: see the [module](super) for formulas.
///
/// Means and standard errors are over Rademacher vectors (and, by the stochastic method, over the draws of signs
/// that each of them has to itself). What gradient differences may add is told apart, as `predicted_error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockDiagonal {
    /// `exact` or `stochastic`.
    pub method: String,
    /// Rademacher vectors compared along.
    pub vectors: usize,
    /// Draws of signs for each of them; 0 by the exact method.
    pub draws: usize,
    /// √(mean ‖Hv − H_bd v‖² / mean ‖Hv‖²). `None` if Hv = 0, or where the stochastic method finds nothing
    /// clear of its own noise.
    pub relative_error: Option<Estimate>,
    /// mean ⟨Hv, H_bd v⟩ / √(mean ‖Hv‖² · mean ‖H_bd v‖²).
    pub cosine: Option<Estimate>,
    /// ‖H − H_bd‖_F² / ‖H‖_F².
    pub off_diagonal_share: Option<Estimate>,
    /// √(E‖S H S v − H_bd v‖²) / ‖H_bd v‖: how far one draw of signs is from what their mean tends to. `None` by
    /// the exact method.
    pub draw_spread: Option<f64>,
    /// The same comparison along the gradient, for which there is one vector only.
    pub gradient: Option<AlongGradient>,
    /// The blocks, in the order in which their parameters first appear.
    pub blocks: Vec<BlockRecord>,
    /// For each Rademacher vector what its comparison found.
    pub comparisons: Vec<Comparison>,
    /// The largest predicted error of Hv and H_bd v together, relative to ‖Hv‖, over all vectors: by as much
    /// `relative_error` may be off for want of exact products.
    pub predicted_error: f64,
    /// Hessian-vector products taken, each counted once.
    pub hvps: u64,
    /// How they went, those that were taken again included.
    pub products: HvpReport,
    /// What `blocks.max_hvps` left no room for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// The comparison along the gradient. By the exact method nothing in it is random, and it has no standard error;
/// by the stochastic one its error is over groups of draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlongGradient {
    /// Draws of signs; 0: it is exact.
    pub draws: usize,
    /// ‖Hg − H_bd g‖ / ‖Hg‖.
    pub relative_error: Option<Estimate>,
    /// The cosine of Hg and H_bd g.
    pub cosine: Option<Estimate>,
}

/// What one vector v of ±1 says. By the stochastic method the last two are unbiased estimates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// ‖Hv‖².
    pub product_squared: f64,
    /// ⟨Hv, H_bd v⟩.
    pub inner_product: f64,
    /// ‖H_bd v‖².
    pub block_squared: f64,
}

/// One diagonal block P_b H P_b.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// The block's name.
    pub name: String,
    /// n_b.
    pub parameters: u64,
    /// Its trace; loss / parameter².
    pub trace: Estimate,
    /// Its Frobenius norm; loss / parameter². `None` where the stochastic estimate of its square is below 0.
    pub frobenius_norm: Option<Estimate>,
    /// Its squared norm over ‖H‖_F². The shares of all blocks and `off_diagonal_share` make up 1, up to their
    /// errors. `None` if Hv = 0.
    pub share: Option<Estimate>,
    /// Its trace over the sum of all traces, which have both signs. `None` where that is 0.
    pub trace_share: Option<Estimate>,
    /// The largest predicted error of a product, relative to the norm of what it gives within the block.
    pub predicted_error: f64,
    /// Its largest Ritz value, where a spectrum was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda_max: Option<Extreme>,
    /// Its smallest Ritz value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda_min: Option<Extreme>,
    /// The Lanczos run from P_b v, v the first Rademacher vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spectrum: Option<ProbeRecord>,
}
