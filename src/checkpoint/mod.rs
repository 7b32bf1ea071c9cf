//! Our state beside a checkpoint.
//!
//! Inside a checkpoint the probe has a directory of its own, [`DIRECTORY`]. The loop owns the checkpoint:
//! when it is deleted, so is ours.
//!
//! - [`atomic`]: files that are whole or not there;
//! - `envelope`: what says that they are whole;
//! - [`sidecar`]: the state, its file and its format;
//! - `vectors`: sharded vectors as files;
//! - `top`: the vector of the largest eigenvalue;
//! - `krylov`: a probe that is under way.

pub mod atomic;
mod envelope;
pub(crate) mod krylov;
pub mod sidecar;
pub(crate) mod top;
mod vectors;

pub use sidecar::{Sidecar, SidecarError};

/// The name of our directory inside a checkpoint.
pub const DIRECTORY: &str = "hessian_probe";
