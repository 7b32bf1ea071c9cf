//! Curvature as the loop's optimizer sees it.
//!
//! Whether a step is stable is not a matter of H alone. Plain gradient descent with learning rate η diverges along an
//! eigenvector whose eigenvalue exceeds 2/η; Adam divides each coordinate by its own √v̂ + ε first, so that what counts
//! there is the largest eigenvalue of P^{-1/2} H P^{-1/2}, P = diag(√v̂ + ε), and momentum moves the limit (Cohen et al.,
//! *Adaptive Gradient Methods at the Edge of Stability*, arXiv 2207.14484).
//!
//! - `loan`: what a loop tells of its optimizer, [`Optimizer`];
//! - [`threshold`](OptimizerKind::threshold): the largest eigenvalue that it bears, in closed form;
//! - `preconditioner`: P from the loop's own second moments, on the shards that they are on;
//! - `record`: what a snapshot keeps of both.
//!
//! The operator itself is [`Preconditioned`](crate::operator::Preconditioned).

mod loan;
mod preconditioner;
mod record;
mod threshold;

pub use loan::{Optimizer, OptimizerKind};
pub use preconditioner::Preconditioner;
pub use record::{PreconditionedSpectrum, Stability};
