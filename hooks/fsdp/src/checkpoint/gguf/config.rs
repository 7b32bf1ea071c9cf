//! The metadata of a file as a model's configuration.

use super::file::GgufFile;
use super::weights::ROPE_FACTORS;
use crate::error::{Error, Result};
use crate::model::{AttentionBias, LlamaConfig, RopeScaling};

/// The families of models that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Rows of queries and keys are in another order.
    Llama,
    Qwen2,
    Qwen3,
}

/// Keys, after the architecture's prefix, that are read, or that change nothing.
const KNOWN: [&str; 27] = [
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.layer_norm_rms_epsilon",
    "attention.key_length",
    "attention.value_length",
    "attention.causal",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "vocab_size",
    "expert_count",
    "expert_used_count",
    "logit_scale",
    "use_parallel_residual",
    "tensor_data_layout",
    "attention.max_alibi_bias",
    "attention.clamp_kqv",
];

/// The model that a file describes.
pub(super) fn read_config(file: &GgufFile) -> Result<(Architecture, LlamaConfig)> {
    let (architecture, prefix) = match file.string("general.architecture")? {
        "llama" => (Architecture::Llama, "llama"),
        "qwen2" => (Architecture::Qwen2, "qwen2"),
        "qwen3" => (Architecture::Qwen3, "qwen3"),
        other => {
            return Err(file.error(format!(
                "`general.architecture` is {other:?}; \"llama\", \"qwen2\" and \"qwen3\" can be used"
            )));
        }
    };
    let keys = Keys { file, prefix };
    keys.check()?;
    let has = |tensor: &str| file.tensor(tensor).is_some();

    let heads = keys.required("attention.head_count")?;
    let hidden = keys.required("embedding_length")?;
    let vocab = match file.tensor("token_embd.weight").map(|info| info.shape.as_slice()) {
        Some(&[vocab, _]) => vocab,
        _ => return Err(file.error("`token_embd.weight` is missing, or not a matrix")),
    };
    let head_dim = keys.size("attention.key_length")?.filter(|&size| Some(size) != hidden.checked_div(heads));
    let (rope_theta, rope_scaling) = keys.rope()?;
    let config = LlamaConfig {
        num_key_value_heads: keys.size("attention.head_count_kv")?,
        head_dim,
        rms_norm_eps: keys
            .number("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| keys.error("attention.layer_norm_rms_epsilon", "is missing"))?,
        rope_theta,
        rope_scaling,
        attention_bias: match (has("blk.0.attn_q.bias"), has("blk.0.attn_output.bias")) {
            (false, _) => AttentionBias::None,
            (true, false) => AttentionBias::Inputs,
            (true, true) => AttentionBias::All,
        },
        mlp_bias: has("blk.0.ffn_gate.bias"),
        qk_norm: has("blk.0.attn_q_norm.weight"),
        tie_word_embeddings: !has("output.weight"),
        max_position_embeddings: keys.required("context_length")?,
        ..LlamaConfig::new(
            vocab,
            hidden,
            keys.required("feed_forward_length")?,
            keys.required("block_count")?,
            heads,
        )
    };
    config.validate().map_err(|error| match error {
        Error::Config { key, reason } => {
            let key = key.strip_prefix("model.").unwrap_or(&key);
            file.error(format!("the model's `{key}` {reason}"))
        }
        other => other,
    })?;
    keys.check_heads(&config)?;
    Ok((architecture, config))
}

/// The keys of an architecture.
struct Keys<'a> {
    file: &'a GgufFile,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn error(&self, name: &str, reason: &str) -> Error {
        self.file.error(format!("`{}` {reason}", self.key(name)))
    }

    fn size(&self, name: &str) -> Result<Option<usize>> {
        let found = self.file.integer(&self.key(name))?;
        found
            .map(|value| {
                usize::try_from(value)
                    .map_err(|_| self.error(name, &format!("is {value}, must not be negative")))
            })
            .transpose()
    }

    fn required(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| self.error(name, "is missing"))
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        self.file.number(&self.key(name))
    }

    /// Whether all keys are known, and have no value that would change what the model computes.
    fn check(&self) -> Result<()> {
        let split = self.file.integer("split.count")?.unwrap_or(1);
        if split > 1 {
            let reason =
                format!("`split.count` is {split}; only models in one file can be read: merge them first");
            return Err(self.file.error(reason));
        }
        let dot = self.key("");
        for key in self.file.keys() {
            let Some(name) = key.strip_prefix(&dot) else { continue };
            if !KNOWN.contains(&name) {
                let shown = self.file.shown_key(key);
                return Err(self.error(
                    name,
                    &format!(
                        "is {shown}, and this key is not known here: it may change what the model computes"
                    ),
                ));
            }
        }
        // What each number must be, where it is there, for the model to be one that is computed here.
        let neutral = [
            ("expert_count", 0.0),
            ("expert_used_count", 0.0),
            ("attention.sliding_window", 0.0),
            ("attention.max_alibi_bias", 0.0),
            ("attention.clamp_kqv", 0.0),
            ("rope.scaling.attn_factor", 1.0),
            ("logit_scale", 1.0),
        ];
        for (name, only) in neutral {
            if let Some(value) = self.number(name)?.filter(|&value| value != only) {
                return Err(self.error(name, &format!("is {value}; this model computes only {only}")));
            }
        }
        for (name, only) in [("attention.causal", true), ("use_parallel_residual", false)] {
            if self.file.boolean(&self.key(name))?.is_some_and(|value| value != only) {
                return Err(self.error(name, &format!("is {}; this model computes only {only}", !only)));
            }
        }
        Ok(())
    }

    fn rope(&self) -> Result<(f64, RopeScaling)> {
        let theta = self.number("rope.freq_base")?.unwrap_or(1e4);
        // Its old name counts where the new one is not there.
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.number("rope.scale_linear")?,
        };
        let linear = |factor: Option<f64>| match factor {
            None | Some(0.0 | 1.0) => RopeScaling::Default,
            Some(factor) => RopeScaling::Linear { factor },
        };
        let kind = match self.file.optional(&self.key("rope.scaling.type"), "a string", Some)? {
            Some(_) => Some(self.file.string(&self.key("rope.scaling.type"))?),
            None => None,
        };
        // As llama.cpp has it: nothing is scaled by the type "none", and a factor without a type is a linear one.
        let scaling = match kind {
            None => linear(factor),
            Some("none") => RopeScaling::Default,
            Some("linear") => {
                linear(Some(factor.ok_or_else(|| self.error("rope.scaling.factor", "is missing"))?))
            }
            Some(other) => {
                let reason =
                    format!("is {other:?}; \"none\", \"linear\" and a tensor `{ROPE_FACTORS}` can be used");
                return Err(self.error("rope.scaling.type", &reason));
            }
        };
        let Some(info) = self.file.tensor(ROPE_FACTORS) else { return Ok((theta, scaling)) };
        if let RopeScaling::Linear { factor } = scaling {
            let reason =
                format!("is {factor}, and there is a tensor `{ROPE_FACTORS}`; only one of them can be used");
            return Err(self.error("rope.scaling.factor", &reason));
        }
        // A head has few elements; a file may claim anything.
        if info.numel() > 1 << 16 {
            return Err(self.file.error(format!("`{ROPE_FACTORS}` has {} elements", info.numel())));
        }
        let mut factors = Vec::new();
        self.file.dequantize(info, 0..info.numel(), &mut factors)?;
        Ok((theta, RopeScaling::Factors { factors: factors.into_iter().map(f64::from).collect() }))
    }

    /// Heads that are turned in part, or whose values are of another size, are not computed here.
    fn check_heads(&self, config: &LlamaConfig) -> Result<()> {
        for name in ["rope.dimension_count", "attention.value_length"] {
            if let Some(size) = self.size(name)?.filter(|&size| size != config.head_size()) {
                let reason =
                    format!("is {size}; only the size of a head, {}, can be used", config.head_size());
                return Err(self.error(name, &reason));
            }
        }
        Ok(())
    }
}
