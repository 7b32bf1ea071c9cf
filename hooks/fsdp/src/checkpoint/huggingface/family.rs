//! The architectures of Hugging Face's that are variations of one model.

use super::config::{Reader, as_size};
use crate::error::Result;
use crate::model::{AttentionBias, LlamaConfig};
use serde_json::{Map, Value, json};

/// Each has its own keys, and its own meaning of a missing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Biases where `attention_bias` and `mlp_bias` say so.
    Llama,
    /// Biases on queries, keys and values, always.
    Qwen2,
    /// Norms of each head's queries and keys, always; biases where `attention_bias` says so.
    Qwen3,
}

impl Family {
    const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    pub(super) fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// The family that a model is exported as; [`LlamaConfig::validate`] has seen to it that there is one.
    pub(super) fn of(config: &LlamaConfig) -> Self {
        match (config.qk_norm, config.attention_bias) {
            (true, _) => Self::Qwen3,
            (false, AttentionBias::Inputs) => Self::Qwen2,
            (false, _) => Self::Llama,
        }
    }

    /// By `model_type`, which `architectures` must not contradict; where it is missing, by `architectures`.
    pub(super) fn read(reader: &Reader<'_>) -> Result<Self> {
        let named = reader.optional("model_type", "a name", |value| value.as_str().map(str::to_owned))?;
        let by_type = named.as_deref().map(|name| {
            Self::ALL.into_iter().find(|family| family.model_type() == name).ok_or_else(|| {
                let known = Self::ALL.map(|family| format!("\"{}\"", family.model_type())).join(", ");
                reader.error("model_type", format!("is \"{name}\"; {known} can be used"))
            })
        });
        let by_type = by_type.transpose()?;
        let architectures = reader.optional("architectures", "a list of names", |value| {
            value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        })?;
        let names = match architectures {
            None => return Ok(by_type.unwrap_or(Self::Llama)),
            Some(names) if names.is_empty() => return Ok(by_type.unwrap_or(Self::Llama)),
            Some(names) => names,
        };
        let fits =
            |family: &Self| names == [family.architecture()] && by_type.is_none_or(|named| named == *family);
        Self::ALL.into_iter().find(fits).ok_or_else(|| {
            let expected = match by_type {
                Some(family) => family.architecture().to_owned(),
                None => Self::ALL.map(Self::architecture).join(", "),
            };
            reader.error("architectures", format!("is {names:?}; {expected} can be used"))
        })
    }

    pub(super) fn default_key_value_heads(self) -> Option<usize> {
        match self {
            Self::Llama => None,
            Self::Qwen2 | Self::Qwen3 => Some(32),
        }
    }

    pub(super) fn default_head_dim(self) -> Option<usize> {
        match self {
            Self::Llama | Self::Qwen2 => None,
            Self::Qwen3 => Some(128),
        }
    }

    pub(super) fn default_positions(self) -> usize {
        match self {
            Self::Llama => 2048,
            Self::Qwen2 | Self::Qwen3 => 32768,
        }
    }

    pub(super) fn qk_norm(self) -> bool {
        self == Self::Qwen3
    }

    pub(super) fn attention_bias(self, reader: &Reader<'_>) -> Result<AttentionBias> {
        let said = reader.optional("attention_bias", "true or false", Value::as_bool)?;
        match (self, said) {
            (Self::Qwen2, Some(false)) => {
                Err(reader.error("attention_bias", "is false, but a Qwen2 has biases always; remove the key"))
            }
            (Self::Qwen2, _) => Ok(AttentionBias::Inputs),
            (_, Some(true)) => Ok(AttentionBias::All),
            _ => Ok(AttentionBias::None),
        }
    }

    pub(super) fn mlp_bias(self, reader: &Reader<'_>) -> Result<bool> {
        let said = reader.optional("mlp_bias", "true or false", Value::as_bool)?.unwrap_or(false);
        if said && self != Self::Llama {
            let reason = format!("is true; a {} has none", self.architecture());
            return Err(reader.error("mlp_bias", reason));
        }
        Ok(said)
    }

    /// Attention to a window of the last tokens only is not computed here: an error where a layer has one.
    pub(super) fn check_windows(self, reader: &Reader<'_>, layers: usize) -> Result<()> {
        let types = reader.optional("layer_types", "a list of names", |value| value.as_array().cloned())?;
        if let Some(other) = types.iter().flatten().find(|name| *name != "full_attention") {
            return Err(
                reader.error("layer_types", format!("has {other}; only \"full_attention\" is computed"))
            );
        }
        let window = reader.optional("sliding_window", "a whole number", as_size)?;
        let used = reader.optional("use_sliding_window", "true or false", Value::as_bool)?;
        let first = reader.optional("max_window_layers", "a whole number", as_size)?;
        if self == Self::Llama {
            return match window {
                None => Ok(()),
                Some(size) => {
                    Err(reader
                        .error("sliding_window", format!("is {size}; only null can be used with a Llama")))
                }
            };
        }
        // A null window is none, a missing one the default's 4096.
        let window = window.is_some() || !reader.contains("sliding_window");
        if used == Some(true) && window && types.is_none() && first.unwrap_or(28) < layers {
            let reason = format!(
                "is true, and layers from max_window_layers = {} on attend to a window only, which is not \
                 computed here",
                first.unwrap_or(28)
            );
            return Err(reader.error("use_sliding_window", reason));
        }
        Ok(())
    }

    pub(super) fn write(self, config: &LlamaConfig, keys: &mut Map<String, Value>) {
        let attention_bias = json!(config.attention_bias == AttentionBias::All);
        match self {
            Self::Llama => {
                keys.insert("attention_bias".into(), attention_bias);
                keys.insert("mlp_bias".into(), json!(config.mlp_bias));
            }
            Self::Qwen2 => {
                keys.insert("use_sliding_window".into(), json!(false));
            }
            Self::Qwen3 => {
                keys.insert("use_sliding_window".into(), json!(false));
                keys.insert("attention_bias".into(), attention_bias);
            }
        }
    }
}
