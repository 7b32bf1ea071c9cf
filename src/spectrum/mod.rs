//! From Lanczos matrices to statistics with errors.
//!
//! - [`quadrature()`]: nodes and weights from a run;
//! - [`ghosts`]: copies of Ritz values in runs without reorthogonalisation, merged;
//! - [`Statistics`]: what the quadratures of all probe vectors say about H;
//! - [`density`]: the smoothed density and the distribution function, with their bands, on an [`Axis`];
//! - [`DensityOverSteps`]: the densities of several snapshots on one axis;
//! - [`regime`]: when a spectrum is not to be trusted;
//! - [`Snapshot`]: the record of one probe.

mod axis;
pub mod density;
mod estimate;
pub mod ghosts;
mod over_steps;
mod quadrature;
pub mod regime;
mod snapshot;
mod statistics;

pub use axis::Axis;
pub use density::{Cumulative, Density};
pub(crate) use estimate::{mean, of_means};
pub use over_steps::{DensityColumn, DensityOverSteps, FEWEST, SpectrumAt};
pub use quadrature::quadrature;
pub use snapshot::{
    Cost, DeflatedValue, Estimate, Extreme, Ghosts, HvpReport, ProbeRecord, SNAPSHOT_VERSION, Snapshot,
    Unresolved,
};
pub use statistics::{PREDICTION_FACTOR, Statistics};
pub(crate) use statistics::{largest, smallest};
