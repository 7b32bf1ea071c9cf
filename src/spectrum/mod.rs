//! From Lanczos matrices to statistics with errors.

mod snapshot;

pub use snapshot::{Cost, Estimate, Extreme, HvpReport, ProbeRecord, SNAPSHOT_VERSION, Snapshot, Unresolved};
