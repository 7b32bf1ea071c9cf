//! Watch the Hessian spectrum of a sharded language model from inside its training loop.

pub mod callback;
pub mod config;
mod error;
pub mod group;
pub mod host;
pub mod log;
pub mod schedule;
pub mod spectrum;

pub use callback::{Callback, Control};
pub use config::ProbeConfig;
pub use error::{Error, Result};
pub use group::{HostError, ProcessGroup, ReduceOp, SingleProcess};
pub use host::{Gradient, Host, Progress, RandomState, Shard};
pub use spectrum::Snapshot;
