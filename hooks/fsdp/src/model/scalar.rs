//! Numbers as tensors.

use tch::{Device, Kind, TchError, Tensor};

/// A tensor without dimensions that holds `value`.
///
/// tch's fallible methods that take a `Scalar` panic on any error (dropping the scalar finds the
/// error first); those that take tensors return it.
pub(crate) fn scalar(value: f64, kind: Kind, device: Device) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(&[value])?.f_to_kind(kind)?.f_to(device)?.f_squeeze()
}
