//! The state of libtorch's default random generators, of which `tch` binds only the seed.
//!
//! What has to be saved and restored around a forward pass with dropout that must not be noticed, or that
//! is to be repeated.

use crate::error::{Error, Result};
use crate::ffi;
use std::ffi::c_int;
use tch::{Device, Kind, Tensor};

fn cuda_index(device: Device) -> Result<c_int> {
    let refuse = |message: &str| Error::Generator { device, message: message.to_owned() };
    match device {
        Device::Cpu => Ok(-1),
        Device::Cuda(index) => c_int::try_from(index).map_err(|_| refuse("no such device")),
        _ => Err(refuse("only CPU and CUDA generators have a state that can be kept")),
    }
}

/// The state of `device`'s default generator, as bytes that only [`set_state`] understands.
///
/// ```
/// use hessian_probe_c10d::generator;
/// use tch::{Device, Kind, Tensor};
///
/// let state = generator::state(Device::Cpu)?;
/// let first = Tensor::randn([8], (Kind::Float, Device::Cpu));
/// generator::set_state(Device::Cpu, &state)?;
/// assert_eq!(first, Tensor::randn([8], (Kind::Float, Device::Cpu)));
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
///
/// # Errors
/// Where the device has no generator.
pub fn state(device: Device) -> Result<Vec<u8>> {
    let index = cuda_index(device)?;
    let tensor = ffi::generator_state(index).map_err(|message| Error::Generator { device, message })?;
    let mut bytes = vec![0; tensor.numel()];
    let length = bytes.len();
    tensor.f_copy_data_u8(&mut bytes, length).map_err(|source| Error::Torch {
        during: format!("state of the random generator of {device:?}"),
        source,
    })?;
    Ok(bytes)
}

/// Puts `device`'s default generator into a state that [`state`] returned for a generator of that kind.
///
/// # Errors
/// Where the device has no generator, or the bytes are not a state of it.
pub fn set_state(device: Device, state: &[u8]) -> Result<()> {
    let index = cuda_index(device)?;
    let length = i64::try_from(state.len())
        .map_err(|error| Error::Generator { device, message: error.to_string() })?;
    let tensor = Tensor::f_from_data_size(state, &[length], Kind::Uint8).map_err(|source| Error::Torch {
        during: format!("state for the random generator of {device:?}"),
        source,
    })?;
    ffi::set_generator_state(index, &tensor).map_err(|message| Error::Generator { device, message })
}
