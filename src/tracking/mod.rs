//! The top eigenvalue between full probes.
//!
//! The vector of the largest eigenvalue changes slowly from step to step: a Lanczos run of a few products, started
//! from the last one, keeps λ_max current at a fraction of a full probe's cost. The first start is the top Ritz vector
//! of a full probe, where its basis was kept, and a random vector otherwise, which the following runs improve.

mod config;
mod measure;
mod record;

pub use config::TrackConfig;
pub(crate) use measure::{bytes, track};
pub use record::Tracked;
