//! One layer: `x ← x + dropout(attention(norm(x)))`, `x ← x + dropout(mlp(norm(x)))`.

use super::attention::{self, Projections};
use super::config::LlamaConfig;
use super::drop_out;
use super::rope::Rope;
use tch::{TchError, Tensor};

/// Runs a layer on hidden states `[B, T, d]`.
pub(super) fn forward(
    config: &LlamaConfig,
    rope: &Rope,
    parameters: &[Tensor],
    input: &Tensor,
    dropout: f64,
) -> Result<Tensor, TchError> {
    let [query, key, value, output, gate, up, down, attention_norm, mlp_norm] = parameters else {
        return Err(TchError::Shape(format!("a layer has 9 parameters, {} were given", parameters.len())));
    };
    let normed = rms_norm(config, input, attention_norm)?;
    let attended = attention::forward(config, rope, &Projections { query, key, value, output }, &normed)?;
    let hidden = input.f_add(&drop_out(attended, dropout)?)?;

    let normed = rms_norm(config, &hidden, mlp_norm)?;
    hidden.f_add(&drop_out(swiglu(&normed, gate, up, down)?, dropout)?)
}

/// `x / sqrt(mean(x²) + ε) · g` over the last dimension
/// (Zhang, Sennrich, *Root Mean Square Layer Normalization*, 2019).
pub(super) fn rms_norm(config: &LlamaConfig, x: &Tensor, gain: &Tensor) -> Result<Tensor, TchError> {
    x.f_rms_norm(gain.size(), Some(gain), config.rms_norm_eps)
}

/// `W_down (silu(W_gate x) ⊙ W_up x)` (Shazeer, *GLU Variants Improve Transformer*, 2020).
fn swiglu(x: &Tensor, gate: &Tensor, up: &Tensor, down: &Tensor) -> Result<Tensor, TchError> {
    project(&project(x, gate)?.f_silu()?.f_mul(&project(x, up)?)?, down)
}

/// `x Wᵀ`.
pub(super) fn project(x: &Tensor, weight: &Tensor) -> Result<Tensor, TchError> {
    x.f_linear(weight, None::<&Tensor>)
}
