//! v ↦ Hv on the host's own shards and gradient.
//!
//! - [`scheme`]: the difference formulas;
//! - `guard`: the loan of the host: θ₀ saved, and restored on every way out;
//! - `difference`: passes over the shards that perturb θ and combine gradients;
//! - `measure`: one difference of gradients, reduced over ranks;
//! - [`step`]: which step h suits a vector, and the error to expect from it;
//! - `at_step`: products with a formula and a step that are given;
//! - `product`: one product, and again where another step is much better;
//! - `choice`: scheme and step of a product, and whether to try again;
//! - `calibration`: what is measured now and then: the noise of one gradient, asymmetry;
//! - `preconditioned`: P^{-1/2} H P^{-1/2} from those products;
//! - [`ecnoise`]: the noise of a function from differences of its values;
//! - [`finite_difference`]: the operator that Lanczos is given;
//! - `spent`: what it has spent.

mod at_step;
mod calibration;
mod choice;
mod difference;
pub mod ecnoise;
pub mod finite_difference;
mod guard;
mod loss;
mod measure;
mod preconditioned;
mod product;
pub mod scheme;
mod spent;
pub mod step;

pub use calibration::Calibration;
pub(crate) use calibration::Learned;
pub(crate) use choice::PARITY_EVERY;
pub(crate) use difference::{From, displace};
pub use finite_difference::{FiniteDifference, Start};
pub(crate) use guard::{Guard, loan_bytes, loan_parts};
pub use preconditioned::Preconditioned;
pub use product::ProductRecord;
pub use scheme::Scheme;
pub(crate) use spent::Spent;
