//! Which parameters a model has, block by block, under Hugging Face's names.

use super::config::{AttentionBias, LlamaConfig};
use super::init::Init;

/// One parameter: its name, its shape and how it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Hugging Face's name, as in `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// `[out, in]` for a projection, `[out]` for its bias, `[hidden_size]` for a norm (of a head: `[head_size]`).
    pub shape: Vec<i64>,
    /// The distribution that it is drawn from at the start.
    pub init: Init,
}

impl ParameterSpec {
    /// The number of elements.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).product()
    }
}

/// One block: the unit that is gathered, run and freed.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockSpec {
    /// `embed`, `layers.0`, …, `head`.
    pub name: String,
    /// The block's own parameters in the order in which [`Llama::run`](super::Llama::run) takes them.
    pub parameters: Vec<ParameterSpec>,
    /// The index of a block whose parameters this one needs, too: `embed` for the head with tied
    /// embeddings.
    pub borrows: Option<usize>,
    pub(super) kind: BlockKind,
}

impl BlockSpec {
    /// The number of elements of the block's own parameters.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.parameters.iter().map(ParameterSpec::numel).sum()
    }

    /// A block of vectors with the given sizes.
    #[cfg(test)]
    pub(crate) fn of_sizes(sizes: &[i64]) -> Self {
        let vector = |(i, &size)| parameter(format!("vector.{i}"), &[size], Init::Ones);
        let parameters = sizes.iter().enumerate().map(vector).collect();
        Self { name: "vectors".into(), parameters, borrows: None, kind: BlockKind::Layer }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    Embed,
    Layer,
    Head,
}

/// The index of the `embed` block.
const EMBED: usize = 0;

pub(super) fn blocks(config: &LlamaConfig) -> Vec<BlockSpec> {
    // `LlamaConfig::validate` has seen to it that sizes fit.
    let size = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let (hidden, vocab) = (size(config.hidden_size), size(config.vocab_size));
    let normal = Init::Normal { std: config.initializer_range };

    let mut blocks = vec![BlockSpec {
        name: "embed".into(),
        parameters: vec![parameter("model.embed_tokens.weight".into(), &[vocab, hidden], normal)],
        borrows: None,
        kind: BlockKind::Embed,
    }];
    blocks.extend((0..config.num_hidden_layers).map(|layer| BlockSpec {
        name: format!("layers.{layer}"),
        parameters: layer_parameters(config, layer),
        borrows: None,
        kind: BlockKind::Layer,
    }));
    let mut head = vec![parameter("model.norm.weight".into(), &[hidden], Init::Ones)];
    if !config.tie_word_embeddings {
        head.push(parameter("lm_head.weight".into(), &[vocab, hidden], normal));
    }
    blocks.push(BlockSpec {
        name: "head".into(),
        parameters: head,
        borrows: config.tie_word_embeddings.then_some(EMBED),
        kind: BlockKind::Head,
    });
    blocks
}

fn layer_parameters(config: &LlamaConfig, layer: usize) -> Vec<ParameterSpec> {
    let size = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let hidden = size(config.hidden_size);
    let inner = size(config.intermediate_size);
    let head = size(config.head_size());
    let query = size(config.num_attention_heads) * head;
    let key_value = size(config.key_value_heads()) * head;
    let normal = Init::Normal { std: config.initializer_range };
    // Two branches per layer add to the residual stream; this keeps its variance independent of depth.
    let depth = config.num_hidden_layers as f64;
    let residual = Init::Normal { std: config.initializer_range / (2.0 * depth).sqrt() };
    let mut parameters = vec![
        ("self_attn.q_proj.weight", vec![query, hidden], normal),
        ("self_attn.k_proj.weight", vec![key_value, hidden], normal),
        ("self_attn.v_proj.weight", vec![key_value, hidden], normal),
        ("self_attn.o_proj.weight", vec![hidden, query], residual),
        ("mlp.gate_proj.weight", vec![inner, hidden], normal),
        ("mlp.up_proj.weight", vec![inner, hidden], normal),
        ("mlp.down_proj.weight", vec![hidden, inner], residual),
        ("input_layernorm.weight", vec![hidden], Init::Ones),
        ("post_attention_layernorm.weight", vec![hidden], Init::Ones),
    ];
    // In the order in which `LayerParameters` takes them.
    if config.attention_bias != AttentionBias::None {
        parameters.push(("self_attn.q_proj.bias", vec![query], Init::Zeros));
        parameters.push(("self_attn.k_proj.bias", vec![key_value], Init::Zeros));
        parameters.push(("self_attn.v_proj.bias", vec![key_value], Init::Zeros));
    }
    if config.attention_bias == AttentionBias::All {
        parameters.push(("self_attn.o_proj.bias", vec![hidden], Init::Zeros));
    }
    if config.mlp_bias {
        parameters.push(("mlp.gate_proj.bias", vec![inner], Init::Zeros));
        parameters.push(("mlp.up_proj.bias", vec![inner], Init::Zeros));
        parameters.push(("mlp.down_proj.bias", vec![hidden], Init::Zeros));
    }
    if config.qk_norm {
        parameters.push(("self_attn.q_norm.weight", vec![head], Init::Ones));
        parameters.push(("self_attn.k_norm.weight", vec![head], Init::Ones));
    }
    parameters
        .into_iter()
        .map(|(name, shape, init)| parameter(format!("model.layers.{layer}.{name}"), &shape, init))
        .collect()
}

fn parameter(name: String, shape: &[i64], init: Init) -> ParameterSpec {
    ParameterSpec { name, shape: shape.to_vec(), init }
}
