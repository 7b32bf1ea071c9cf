//! One layer: `x ← x + dropout(attention(norm(x)))`, `x ← x + dropout(mlp(norm(x)))`.

use super::attention;
use super::config::LlamaConfig;
use super::drop_out;
use super::layer_parameters::{LayerParameters, Projection};
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
    let parameters = LayerParameters::new(config, parameters)?;
    let normed = rms_norm(config, input, parameters.attention_norm)?;
    let attended = attention::forward(config, rope, &parameters, &normed)?;
    let hidden = input.f_add(&drop_out(attended, dropout)?)?;

    let normed = rms_norm(config, &hidden, parameters.mlp_norm)?;
    hidden.f_add(&drop_out(swiglu(&normed, &parameters)?, dropout)?)
}

/// `x / sqrt(mean(x²) + ε) · g` over the last dimension
/// (Zhang, Sennrich, *Root Mean Square Layer Normalization*, 2019).
pub(super) fn rms_norm(config: &LlamaConfig, x: &Tensor, gain: &Tensor) -> Result<Tensor, TchError> {
    x.f_rms_norm(gain.size(), Some(gain), config.rms_norm_eps)
}

/// `W_down (silu(W_gate x) ⊙ W_up x)` (Shazeer, *GLU Variants Improve Transformer*, 2020).
fn swiglu(x: &Tensor, parameters: &LayerParameters<'_>) -> Result<Tensor, TchError> {
    let gated = project(x, parameters.gate)?.f_silu()?;
    project(&gated.f_mul(&project(x, parameters.up)?)?, parameters.down)
}

/// `x Wᵀ + b`.
pub(super) fn project(x: &Tensor, projection: Projection<'_>) -> Result<Tensor, TchError> {
    x.f_linear(projection.weight, projection.bias)
}
