//! From Lanczos matrices to statistics with errors.
//!
//! - [`quadrature()`]: nodes and weights from a run;
//! - [`ghosts`]: copies of Ritz values in runs without reorthogonalisation, merged;
//! - [`Statistics`]: what the quadratures of all probe vectors say about H;
//! - [`Snapshot`]: the record of one probe.

mod estimate;
pub mod ghosts;
mod quadrature;
mod snapshot;
mod statistics;

pub(crate) use estimate::{mean, of_means};
pub use quadrature::quadrature;
pub use snapshot::{
    Cost, Estimate, Extreme, Ghosts, HvpReport, ProbeRecord, SNAPSHOT_VERSION, Snapshot, Unresolved,
};
pub use statistics::{PREDICTION_FACTOR, Statistics};
