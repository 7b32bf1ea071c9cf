//! The norm of a sharded gradient, and clipping by it.

use tch::{Kind, TchError, Tensor};

/// How many elements are converted to f64 at a time.
const CHUNK: i64 = 1 << 20;

/// `Σ g²` over this rank's shards, in f64. The square root of its sum over ranks is the global norm.
///
/// # Errors
/// libtorch's.
pub fn squared_norm(shards: &[Tensor]) -> Result<f64, TchError> {
    let mut sum = 0.0;
    for shard in shards {
        let len = shard.numel() as i64;
        let mut start = 0;
        while start < len {
            let chunk = shard.f_narrow(0, start, CHUNK.min(len - start))?.f_to_kind(Kind::Double)?;
            sum += chunk.f_dot(&chunk)?.f_double_value(&[])?;
            start += CHUNK;
        }
    }
    Ok(sum)
}

/// The factor of PyTorch's `clip_grad_norm_`: `min(1, max_norm / (norm + 1e-6))`.
#[must_use]
pub fn clip_coefficient(norm: f64, max_norm: Option<f64>) -> f64 {
    max_norm.map_or(1.0, |max_norm| (max_norm / (norm + 1e-6)).min(1.0))
}
