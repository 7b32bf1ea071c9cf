//! Watch the Hessian spectrum of a sharded language model from inside its training loop.

pub mod callback;
pub mod config;
mod error;
pub mod group;
pub mod host;
pub mod krylov;
pub mod log;
pub mod operator;
mod probe;
pub mod schedule;
pub mod sharded;
mod slq;
pub mod spectrum;

pub use callback::{Callback, Control};
pub use config::OnError;
pub use config::ProbeConfig;
pub use error::{Error, Result};
pub use group::{HostError, ProcessGroup, ReduceOp, SingleProcess};
pub use host::{Gradient, Host, Progress, RandomState, Shard};
pub use probe::HessianProbe;
pub use spectrum::Snapshot;
