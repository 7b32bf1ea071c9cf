//! The first block: tokens to vectors.

use super::drop_out;
use tch::{TchError, Tensor};

/// `x[b, t, :] = dropout(E[tokens[b, t], :])`, parameters `[E]`.
pub(super) fn forward(parameters: &[Tensor], tokens: &Tensor, dropout: f64) -> Result<Tensor, TchError> {
    let [weight] = parameters else {
        return Err(TchError::Shape(format!("embed has 1 parameter, {} were given", parameters.len())));
    };
    drop_out(Tensor::f_embedding(weight, tokens, -1, false, false)?, dropout)
}
