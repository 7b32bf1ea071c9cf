//! The sizes of a model, under Hugging Face's names.

use super::rope_scaling::RopeScaling;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How attention is computed. Both give the same values up to rounding.
///
/// ```
/// use hessian_probe_fsdp::{Attention, LlamaConfig};
///
/// // Faster, but without exact Hessian-vector products.
/// let config = LlamaConfig { attention: Attention::Sdpa, ..LlamaConfig::new(256, 64, 160, 2, 4) };
/// config.validate()?;
/// # Ok::<(), hessian_probe_fsdp::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attention {
    /// Matrix products and a softmax: can be differentiated twice, holds `T²` scores per head.
    #[default]
    Plain,
    /// libtorch's fused `scaled_dot_product_attention`: less memory, no second derivative on a CPU.
    Sdpa,
}

/// Which projections of attention have a bias.
///
/// ```
/// use hessian_probe_fsdp::{AttentionBias, LlamaConfig};
///
/// let qwen2 = LlamaConfig { attention_bias: AttentionBias::Inputs, ..LlamaConfig::new(256, 64, 160, 2, 4) };
/// qwen2.validate()?;
/// # Ok::<(), hessian_probe_fsdp::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttentionBias {
    /// None, as in Llama.
    #[default]
    None,
    /// Those of queries, keys and values, as in Qwen2.
    Inputs,
    /// Those and the output's, as in Llama with `attention_bias`.
    All,
}

impl AttentionBias {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Sizes of a Llama-architecture model and its variations; keys are those of Hugging Face's `config.json`, plus
/// `dropout`, `attention` and `qk_norm`.
///
/// [`new`](Self::new) gives the defaults of all others.
///
/// ```
/// let config: hessian_probe_fsdp::LlamaConfig = serde_json::from_str(
///     r#"{"vocab_size": 256, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
///         "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true}"#,
/// )?;
/// config.validate()?;
/// assert_eq!(config.head_size(), 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// Number of tokens, `V`.
    pub vocab_size: usize,
    /// Width of the residual stream, `d`.
    pub hidden_size: usize,
    /// Width inside the feed-forward network.
    pub intermediate_size: usize,
    /// Number of layers, `L`.
    pub num_hidden_layers: usize,
    /// Number of query heads; divides `hidden_size` unless there is a `head_dim`.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides `num_attention_heads`. Default: as many.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Size of a head, even. Default: `hidden_size / num_attention_heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Added to the mean square in RMSNorm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base θ of the rotary embeddings' frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// What becomes of those frequencies.
    #[serde(default, skip_serializing_if = "RopeScaling::is_default")]
    pub rope_scaling: RopeScaling,
    /// Which projections of attention have a bias.
    #[serde(default, skip_serializing_if = "AttentionBias::is_none")]
    pub attention_bias: AttentionBias,
    /// Whether the projections of the feed-forward network have a bias.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mlp_bias: bool,
    /// Whether each head's queries and keys go through an RMSNorm before they are rotated, as in Qwen3.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub qk_norm: bool,
    /// Whether the output projection is the token embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// The longest sequence.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// Standard deviation of the initial weights.
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    /// Rate of dropout after the embedding and on both residual branches of a layer, in `[0, 1)`.
    #[serde(default)]
    pub dropout: f64,
    /// How attention is computed.
    #[serde(default)]
    pub attention: Attention,
}

/// Far more than any model's. The frequencies of rotary embeddings are made before any weight is looked at.
const LARGEST_HEAD: usize = 1 << 16;

fn default_eps() -> f64 {
    1e-5
}

fn default_theta() -> f64 {
    1e4
}

fn default_positions() -> usize {
    2048
}

fn default_range() -> f64 {
    0.02
}

impl LlamaConfig {
    /// A plain Llama of these sizes: as many key and value heads as query heads, untied, everything else at its
    /// default.
    #[must_use]
    pub fn new(vocab: usize, hidden: usize, intermediate: usize, layers: usize, heads: usize) -> Self {
        Self {
            vocab_size: vocab,
            hidden_size: hidden,
            intermediate_size: intermediate,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: None,
            head_dim: None,
            rms_norm_eps: default_eps(),
            rope_theta: default_theta(),
            rope_scaling: RopeScaling::Default,
            attention_bias: AttentionBias::None,
            mlp_bias: false,
            qk_norm: false,
            tie_word_embeddings: false,
            max_position_embeddings: default_positions(),
            initializer_range: default_range(),
            dropout: 0.0,
            attention: Attention::Plain,
        }
    }

    /// Checks that the sizes are positive and fit together.
    ///
    /// # Errors
    /// [`Error::Config`] with the first key at fault.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.key_value_heads()),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (key, value) in positive {
            if value == 0 || i64::try_from(value).is_err() {
                return Err(invalid(key, format!("is {value}, must be at least 1")));
            }
        }
        match self.head_dim {
            None if !self.hidden_size.is_multiple_of(2 * self.num_attention_heads) => {
                return Err(invalid(
                    "num_attention_heads",
                    format!(
                        "{} heads must divide hidden_size = {} into heads of even size, or `head_dim` be given",
                        self.num_attention_heads, self.hidden_size
                    ),
                ));
            }
            Some(size) if size == 0 || !size.is_multiple_of(2) => {
                return Err(invalid("head_dim", format!("is {size}, must be even and at least 2")));
            }
            _ => {}
        }
        if self.head_size() > LARGEST_HEAD {
            let reason =
                format!("heads of {} elements are too large; at most {LARGEST_HEAD}", self.head_size());
            return Err(invalid("head_dim", reason));
        }
        self.check_numel()?;
        if !self.num_attention_heads.is_multiple_of(self.key_value_heads()) {
            return Err(invalid(
                "num_key_value_heads",
                format!(
                    "{} must divide num_attention_heads = {}",
                    self.key_value_heads(),
                    self.num_attention_heads
                ),
            ));
        }
        for (key, value) in [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
            ("initializer_range", self.initializer_range),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(invalid(key, format!("is {value}, must be positive")));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(invalid("dropout", format!("is {}, must be in [0, 1)", self.dropout)));
        }
        self.rope_scaling.validate(self.head_size())?;
        self.check_family()
    }

    /// Whether an index into the parameters of a block fits an `i64`, as every later product assumes.
    fn check_numel(&self) -> Result<()> {
        let widest = [self.vocab_size, self.intermediate_size, self.hidden_size]
            .into_iter()
            .max()
            .unwrap_or_default()
            .max(self.num_attention_heads.saturating_mul(self.head_size()));
        // Nine projections, at most so large, and vectors.
        let most = widest.checked_mul(self.hidden_size).and_then(|numel| numel.checked_mul(32));
        match most.map(i64::try_from) {
            Some(Ok(_)) => Ok(()),
            _ => {
                Err(invalid("hidden_size", format!("{} by {widest} is too large a weight", self.hidden_size)))
            }
        }
    }

    /// Variations that no architecture of Hugging Face's has together could not be exported.
    fn check_family(&self) -> Result<()> {
        if self.qk_norm && self.attention_bias == AttentionBias::Inputs {
            return Err(invalid(
                "attention_bias",
                "is \"inputs\"; with qk_norm it is \"none\" or \"all\"".into(),
            ));
        }
        if self.mlp_bias && (self.qk_norm || self.attention_bias == AttentionBias::Inputs) {
            let reason = "is true; it goes neither with qk_norm nor with attention_bias = \"inputs\"";
            return Err(invalid("mlp_bias", reason.into()));
        }
        Ok(())
    }

    /// The number of key and value heads.
    #[must_use]
    pub fn key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// The size of one head, `head_dim` or `hidden_size / num_attention_heads`.
    #[must_use]
    pub fn head_size(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }
}

pub(super) fn invalid(key: &str, reason: String) -> Error {
    Error::config(format!("model.{key}"), reason)
}
