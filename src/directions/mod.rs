//! Curvature along single directions: the gradient, the optimizer's update, one of the user's.
//!
//! Each takes one Hessian-vector product, vᵀHv/‖v‖². Along an update u the quadratic model of the loss predicts what the
//! step changes, L(θ+u) − L(θ) ≈ gᵀu + uᵀHu/2; beside it stands what two forward passes measure. Where the two part,
//! steps are too long for curvature to tell what they do.
//!
//! `[directions]` has them in every snapshot; [`HessianProbe::along`](crate::HessianProbe::along) and
//! [`along_update`](crate::HessianProbe::along_update) measure at any time, also between the backward pass and the
//! optimizer's step.

mod config;
mod measure;
mod record;

pub use config::DirectionsConfig;
pub(crate) use measure::{Lent, along, along_update, on_loan};
pub use record::{Along, AlongUpdate, Directions};
