//! v ↦ Hv on the host's own shards and gradient.
//!
//! - `guard`: the loan of the host: θ₀ saved, and restored on every way out;
//! - `difference`: passes over the shards that perturb θ and combine gradients;
//! - `measure`: one difference of gradients, reduced over ranks;
//! - [`step`]: which step h suits a vector, and the error to expect from it;
//! - `choice`: scheme and step of a product, and whether to try again;
//! - `calibration`: η, the noise of one gradient;
//! - [`finite_difference`]: the operator that Lanczos is given.

mod calibration;
mod choice;
mod difference;
pub mod finite_difference;
mod guard;
mod measure;
pub mod step;

pub use calibration::Calibration;
pub use finite_difference::FiniteDifference;
