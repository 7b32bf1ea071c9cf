//! The parameters of a layer by name.

use super::config::{AttentionBias, LlamaConfig};
use tch::{TchError, Tensor};

/// A weight `[out, in]` and, where the model has it, a bias `[out]`.
#[derive(Clone, Copy)]
pub(super) struct Projection<'a> {
    pub weight: &'a Tensor,
    pub bias: Option<&'a Tensor>,
}

/// What a layer is given, in the order of [`BlockSpec::parameters`](super::BlockSpec::parameters).
pub(super) struct LayerParameters<'a> {
    pub query: Projection<'a>,
    pub key: Projection<'a>,
    pub value: Projection<'a>,
    pub output: Projection<'a>,
    pub gate: Projection<'a>,
    pub up: Projection<'a>,
    pub down: Projection<'a>,
    pub attention_norm: &'a Tensor,
    pub mlp_norm: &'a Tensor,
    /// The gains of queries and keys, `[head_size]` each.
    pub head_norms: Option<[&'a Tensor; 2]>,
}

impl<'a> LayerParameters<'a> {
    pub(super) fn new(config: &LlamaConfig, parameters: &'a [Tensor]) -> Result<Self, TchError> {
        let wrong = |found: usize| TchError::Shape(format!("a layer was given {found} parameters"));
        let ([query, key, value, output, gate, up, down, attention_norm, mlp_norm], rest) =
            parameters.split_first_chunk().ok_or_else(|| wrong(parameters.len()))?;
        let mut rest = rest.iter();
        let mut next = |present: bool| match present {
            false => Ok(None),
            true => rest.next().map(Some).ok_or_else(|| wrong(parameters.len())),
        };
        let inputs = config.attention_bias != AttentionBias::None;
        let biases = [
            next(inputs)?,
            next(inputs)?,
            next(inputs)?,
            next(config.attention_bias == AttentionBias::All)?,
            next(config.mlp_bias)?,
            next(config.mlp_bias)?,
            next(config.mlp_bias)?,
        ];
        let norms = [next(config.qk_norm)?, next(config.qk_norm)?];
        if rest.next().is_some() {
            return Err(wrong(parameters.len()));
        }
        let projection = |weight: &'a Tensor, bias: Option<&'a Tensor>| Projection { weight, bias };
        let [query_bias, key_bias, value_bias, output_bias, gate_bias, up_bias, down_bias] = biases;
        Ok(Self {
            query: projection(query, query_bias),
            key: projection(key, key_bias),
            value: projection(value, value_bias),
            output: projection(output, output_bias),
            gate: projection(gate, gate_bias),
            up: projection(up, up_bias),
            down: projection(down, down_bias),
            attention_norm,
            mlp_norm,
            head_norms: match norms {
                [Some(query), Some(key)] => Some([query, key]),
                _ => None,
            },
        })
    }
}
