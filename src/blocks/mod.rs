//! How much of the Hessian is block-diagonal, and what its diagonal blocks are like.
//!
//! Blocks partition the parameters: by layer, tensor or kind, or by patterns of names ([`partition`]). P_b projects
//! on block b, and H_bd = Σ_b P_b H P_b is what block-diagonal methods (K-FAC, Shampoo, layer-wise Newton) keep of H.
//!
//! # H_bd v
//! - *Exact*: P_b H P_b v takes a product for each block.
//! - *Stochastic*, for many blocks: with S = Σ_b s_b P_b, s_b = ±1 at random, E[S H S v] = H_bd v. A draw costs a
//!   product, and is off by Σ_{a≠b} s_a s_b P_a H P_b v, which is as large as what is off the diagonal:
//!   `draw_spread`. No inner product is taken of a draw with itself, so that none is biased by that. With y = Hv and
//!   draws z_1, …, z_K
//!   - ⟨Hv, H_bd v⟩ ≈ (1/K) Σ_i ⟨y, z_i⟩,
//!   - ‖H_bd v‖² ≈ 2/(K(K−1)) Σ_{i<j} ⟨z_i, z_j⟩,
//!   - ‖Hv − H_bd v‖² ≈ ‖y‖² − 2 (the first) + (the second),
//!
//!   each over all entries, or over those of one block. Signs are a function of (seed, vector, draw, block).
//!
//! # What is reported
//! Over Rademacher vectors v (entries ±1; those that the probes of the same number start from) E‖Av‖² = ‖A‖_F² and
//! E vᵀAv = tr A, so that ratios of means over vectors estimate
//! - `relative_error` √(mean ‖Hv − H_bd v‖² / mean ‖Hv‖²) → ‖H − H_bd‖_F / ‖H‖_F,
//! - `cosine` mean ⟨Hv, H_bd v⟩ / √(mean ‖Hv‖² · mean ‖H_bd v‖²) → ‖H_bd‖_F / ‖H‖_F,
//! - `off_diagonal_share` mean ‖Hv − H_bd v‖² / mean ‖Hv‖² → ‖H − H_bd‖_F² / ‖H‖_F²,
//!
//! and for each block tr P_b H P_b, ‖P_b H P_b‖_F and their shares. Standard errors are those of the jackknife over
//! vectors. Along the gradient there is one vector: the exact method then has no error but that of its products; by
//! the stochastic one it is given as many draws as all other vectors together, in groups of `draws`, and the jackknife
//! is over groups.
//!
//! The spectrum of a block is stochastic Lanczos quadrature on P_b H P_b from P_b v, v the first of the vectors.
//!
//! # Errors of the products
//! Products are gradient differences, of unit vectors; each has its predicted error e. That of Hv − H_bd v is at most
//! e(Hv) + e(H_bd v), where e(H_bd v) is √(Σ_b ‖P_b v‖² e_b²) for the exact method, whose products give different
//! entries, and the mean over draws for the stochastic one. With the vectors put one behind the other, `relative_error`
//! R is a ratio of norms, and `predicted_error` = (√(Σ_v (e(Hv) + e(H_bd v))²) + R √(Σ_v e(Hv)²)) / √(Σ_v ‖Hv‖²) bounds
//! what these errors do to it. Eigenvalues have theirs in their residuals.
//!
//! # Cost
//! What a measurement takes is known before it starts ([`Plan`]), is logged, and keeps to `max_hvps`. Memory beyond
//! θ₀, g₀ and the vector of work: two vectors of a shard's size, by the stochastic method three; for spectra one, and a
//! Lanczos basis of the block's size. The basis of the probe itself has been freed by then.

mod assemble;
mod comparison;
mod config;
mod direction;
mod measure;
mod naming;
mod observed;
pub mod partition;
mod plan;
mod record;
mod spectrum;
mod sums;

pub use config::{BlocksConfig, By, LEAST_HVPS, Method, NamedPatterns};
pub use measure::{block_diagonal, measure};
pub use partition::Partition;
pub use plan::Plan;
pub use record::{AlongGradient, BlockDiagonal, BlockRecord, Comparison};

pub(crate) use measure::{bytes, on_loan};
