//! The sizes of a model, under Hugging Face's names.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How attention is computed. Both give the same values up to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attention {
    /// Matrix products and a softmax: can be differentiated twice, holds `T²` scores per head.
    #[default]
    Plain,
    /// libtorch's fused `scaled_dot_product_attention`: less memory, no second derivative on a CPU.
    Sdpa,
}

/// Sizes of a Llama-architecture model; keys are those of Hugging Face's `config.json`, plus
/// `dropout` and `attention`.
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
    /// Number of query heads; divides `hidden_size` into heads of even size.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides `num_attention_heads`. Default: as many.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Added to the mean square in RMSNorm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base θ of the rotary embeddings' frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
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
        if !self.hidden_size.is_multiple_of(2 * self.num_attention_heads) {
            return Err(invalid(
                "num_attention_heads",
                format!(
                    "{} heads must divide hidden_size = {} into heads of even size",
                    self.num_attention_heads, self.hidden_size
                ),
            ));
        }
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
        Ok(())
    }

    /// The number of key and value heads.
    #[must_use]
    pub fn key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// The size of one head, `hidden_size / num_attention_heads`.
    #[must_use]
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }
}

fn invalid(key: &str, reason: String) -> Error {
    Error::config(format!("model.{key}"), reason)
}
