//! Critical sharpness: how far along the optimizer's update the loss may go before it rises, by forward passes alone.
//!
//! With u the update, c is the smallest positive multiple of it at which the loss exceeds what it is at θ,
//! L(θ + cu) > L(θ). The learning rate could be c times larger before the step no longer lowers the loss of the probe batch:
//! η_c = cη is the critical learning rate, 2/η_c the *critical sharpness*, and 1/c = η/η_c the share of it that the step
//! takes. On a quadratic, c = −2gᵀu / uᵀHu; for gradient descent that makes 2/η_c = gᵀHg/‖g‖², the curvature along the
//! gradient. Source: arXiv 2601.16979.
//!
//! It is no eigenvalue: 1/c > 1 says that this very step overshoots on the probe batch. An optimizer with momentum takes such
//! steps well below the threshold of [`OptimizerKind::threshold`](crate::OptimizerKind::threshold), and is lost above it.
//!
//! - `config`: `[sharpness]`, when and with how many forward passes;
//! - `search`: the bracket about c, from values of the loss;
//! - `measure`: those values, on the host's loan;
//! - `record`: what is logged of it.

mod config;
mod measure;
mod record;
mod search;

pub use config::SharpnessConfig;
pub(crate) use measure::{bytes, measure};
pub use record::CriticalSharpness;
