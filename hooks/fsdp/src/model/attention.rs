//! Causal attention with grouped queries.

use super::config::{Attention, LlamaConfig};
use super::layer::{project, rms_norm};
use super::layer_parameters::LayerParameters;
use super::rope::Rope;
use super::scalar;
use tch::{Kind, TchError, Tensor};

/// `softmax(QKᵀ/√h + causal mask) V`, heads concatenated and projected; query head `i` uses key and
/// value head `i / (heads / key_value_heads)`
/// (Ainslie et al., *GQA: Training Generalized Multi-Query Transformer Models*, 2023).
///
/// With `qk_norm`, `Q` and `K` are normalized within each head before they are rotated
/// (Henry et al., *Query-Key Normalization for Transformers*, 2020; here with RMSNorm and a gain per element).
pub(super) fn forward(
    config: &LlamaConfig,
    rope: &Rope,
    parameters: &LayerParameters<'_>,
    x: &Tensor,
) -> Result<Tensor, TchError> {
    let (batch, time, _) = x.size3()?;
    let size = config.head_size() as i64;
    let (heads, key_value_heads) = (config.num_attention_heads as i64, config.key_value_heads() as i64);

    let split = |projected: Tensor, heads: i64, gain: Option<&Tensor>| {
        let heads = projected.f_view([batch, time, heads, size])?;
        let normed = gain.map_or(Ok(heads.shallow_clone()), |gain| rms_norm(config, &heads, gain))?;
        normed.f_transpose(1, 2)
    };
    let [query_gain, key_gain] = parameters.head_norms.map_or([None; 2], |norms| norms.map(Some));
    let query = rope.rotate(&split(project(x, parameters.query)?, heads, query_gain)?)?;
    let key = rope.rotate(&split(project(x, parameters.key)?, key_value_heads, key_gain)?)?;
    let value = split(project(x, parameters.value)?, key_value_heads, None)?;
    let key = repeat_heads(&key, heads / key_value_heads)?;
    let value = repeat_heads(&value, heads / key_value_heads)?;

    let attended = match config.attention {
        Attention::Plain => plain(&query, &key, &value, size)?,
        Attention::Sdpa => Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &value,
            None::<&Tensor>,
            0.0,
            true,
            None,
            false,
        )?,
    };
    project(&attended.f_transpose(1, 2)?.f_reshape([batch, time, heads * size])?, parameters.output)
}

fn plain(query: &Tensor, key: &Tensor, value: &Tensor, head_size: i64) -> Result<Tensor, TchError> {
    let (kind, device) = (query.f_kind()?, query.device());
    let time = query.size().get(2).copied().unwrap_or(0);
    let scale = scalar(1.0 / (head_size as f64).sqrt(), kind, device)?;
    let scores = query.f_mul(&scale)?.f_matmul(&key.f_transpose(-2, -1)?)?;
    let future = Tensor::f_ones([time, time], (Kind::Bool, device))?.f_triu(1)?;
    let scores = scores.f_masked_fill_tensor(&future, &scalar(f64::NEG_INFINITY, kind, device)?)?;
    scores.f_softmax(-1, None)?.f_matmul(value)
}

/// `[B, G, T, h]` to `[B, G · repeats, T, h]`, each head `repeats` times in a row.
fn repeat_heads(x: &Tensor, repeats: i64) -> Result<Tensor, TchError> {
    if repeats == 1 {
        return Ok(x.shallow_clone());
    }
    let (batch, heads, time, size) = x.size4()?;
    x.f_unsqueeze(2)?.f_expand([batch, heads, repeats, time, size], false)?.f_reshape([
        batch,
        heads * repeats,
        time,
        size,
    ])
}
