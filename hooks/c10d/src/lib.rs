//! Ranks over libtorch's own c10d (Gloo on CPU, NCCL on GPU), with torchrun's conventions.
pub mod autograd;
mod call;
mod environment;
mod error;
mod ffi;
pub mod generator;
pub mod launch;
mod packet;
pub mod process_group;
mod ranks;
mod small;
pub mod store;

pub use autograd::{GradOptions, grad};
pub use error::{Error, Result, Silent};
pub use launch::{Launcher, Outcome, Output, is_launched};
pub use process_group::{Backend, ProcessGroup, ReduceOp};
pub use store::StoreServer;
