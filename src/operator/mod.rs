//! v ↦ Hv on the host's own shards and gradient.
//!
//! - `guard`: the loan of the host: θ₀ saved, and restored on every way out;
//! - `difference`: passes over the shards that perturb θ and combine gradients;
//! - [`step`]: which step h suits a vector, and the error to expect from it;
//! - `noise`: η, the noise of one gradient;
//! - [`finite_difference`]: the operator that Lanczos is given.

pub(crate) mod difference;
pub mod finite_difference;
pub(crate) mod guard;
pub(crate) mod noise;
pub mod step;

pub use finite_difference::{Calibration, FiniteDifference};
