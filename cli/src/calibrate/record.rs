//! The file that a calibration leaves.

use super::arguments::CalibrateArguments;
use crate::data::Data;
use hessian_probe::regimes::Regime;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of [`Calibration`]: it changes when a field changes its meaning.
pub const CALIBRATION_VERSION: u32 = 1;

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// [`CALIBRATION_VERSION`].
    pub version: u32,
    /// The model's path, as it was given.
    pub model: String,
    /// The data's path, as it was given.
    pub data: String,
    /// n.
    pub parameters: u64,
    /// The counted targets that the loss is the mean over.
    pub tokens: u64,
    /// The seed of the random vector.
    pub seed: u64,
    /// Seconds since 1970 when this was written.
    pub unix_time: f64,
    /// Whether it came to its end; where it did not, precisions or their Lanczos runs are missing.
    pub complete: bool,
    /// One for each precision, in the order asked for; `name` is the precision.
    pub precisions: Vec<Regime>,
}

impl Calibration {
    pub fn new(arguments: &CalibrateArguments, data: &Data, precisions: Vec<Regime>, complete: bool) -> Self {
        Self {
            version: CALIBRATION_VERSION,
            model: arguments.model.display().to_string(),
            data: arguments.data.display().to_string(),
            parameters: precisions.first().map_or(0, |regime| regime.parameters),
            tokens: data.targets() as u64,
            seed: arguments.seed,
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            complete,
            precisions,
        }
    }
}
