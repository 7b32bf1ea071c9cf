//! The last block: the final norm and the projection to logits; and the loss.

use super::config::LlamaConfig;
use super::layer::{project, rms_norm};
use super::layer_parameters::Projection;
use crate::precision::{cast, wider};
use tch::{Kind, Reduction, TchError, Tensor};

/// The label of a position that is not counted.
pub const IGNORE_INDEX: i64 = -100;

/// `logits = W norm(x)`, parameters `[g, W]`; with tied embeddings `W` is the borrowed `E`.
pub(super) fn forward(
    config: &LlamaConfig,
    parameters: &[Tensor],
    input: &Tensor,
) -> Result<Tensor, TchError> {
    let [norm, weight] = parameters else {
        return Err(TchError::Shape(format!(
            "the head takes the final norm and the output projection (or the borrowed embedding), {} parameters \
             were given",
            parameters.len()
        )));
    };
    project(&rms_norm(config, input, norm)?, Projection { weight, bias: None })
}

/// `-Σ log softmax(logits)[label]` over the positions whose label is not [`IGNORE_INDEX`]: an f64
/// tensor without dimensions, for `logits` `[B, T, V]` and `labels` `[B, T]` (i64), where `labels[b, t]`
/// is the target *at* position `t`.
///
/// # Errors
/// libtorch's, for instance on a label outside of the vocabulary.
pub fn cross_entropy_sum(logits: &Tensor, labels: &Tensor) -> Result<Tensor, TchError> {
    let (_, _, vocab) = logits.size3()?;
    // Logarithms of small probabilities need more than bf16 has.
    cast(logits, wider(logits.f_kind()?, Kind::Float))?
        .f_view([-1, vocab])?
        .f_cross_entropy_loss(&labels.f_reshape([-1])?, None::<&Tensor>, Reduction::None, IGNORE_INDEX, 0.0)?
        // Single losses are of the logits' kind, or f32; adding them up in f64 costs nothing and keeps
        // the digits that a finite difference or a comparison of runs needs.
        .f_sum(Kind::Double)
}
