//! What is found along directions.

use serde::{Deserialize, Serialize};

/// Along one vector v.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Along {
    /// ‖v‖.
    pub norm: f64,
    /// gᵀv/‖v‖; loss / parameter.
    pub slope: f64,
    /// vᵀHv/‖v‖²; loss / parameter².
    pub curvature: f64,
    /// What errors of the product may change `curvature` by: [`PREDICTION_FACTOR`](crate::spectrum::PREDICTION_FACTOR)
    /// times the predicted one.
    pub error: f64,
    /// ‖Hv‖/‖v‖; equal to |`curvature`| where v is an eigenvector.
    pub product_norm: f64,
}

/// Along an update u.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlongUpdate {
    /// Whether it is the coming update; otherwise the last one, as if it were made again.
    pub coming: bool,
    /// Along u.
    pub along: Along,
    /// gᵀu + uᵀHu/2: the change of the loss by the quadratic model.
    pub predicted_change: f64,
    /// L(θ+u) − L(θ), by forward passes on the probe batch. Its rounding is that of L in the loop's precision.
    pub measured_change: f64,
    /// The share of u that θ+u really moves, rounded to the parameters' precision: what was measured is along so much of
    /// it.
    pub realised: f64,
}

/// The directions of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Directions {
    /// Along the gradient of the probe loss; `None` where it vanishes, or was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient: Option<Along>,
    /// Along the update; `None` where the host lends none, or it is 0, or was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<AlongUpdate>,
}
