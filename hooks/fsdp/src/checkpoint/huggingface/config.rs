//! `config.json`, both ways.

use super::keys::{IGNORED, READ, fixed};
use crate::config::Dtype;
use crate::error::{Error, Result};
use crate::model::LlamaConfig;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The model that the `config.json` at `path` describes.
///
/// # Errors
/// [`Io`](Error::Io), [`HuggingFace`](Error::HuggingFace) where it is not a JSON object, and
/// [`HuggingFaceKey`](Error::HuggingFaceKey) with the first key that is missing, has a value of the wrong type,
/// or asks for something that this model does not compute.
pub fn read_config(path: &Path) -> Result<LlamaConfig> {
    let text = std::fs::read(path).map_err(|source| Error::Io {
        rank: 0,
        action: "read",
        path: path.into(),
        source,
    })?;
    let keys: Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| Error::HuggingFace { path: path.into(), reason: error.to_string() })?;
    let reader = Reader { path, keys: &keys };
    reader.check_keys()?;

    let config = LlamaConfig {
        vocab_size: reader.size("vocab_size")?,
        hidden_size: reader.size("hidden_size")?,
        intermediate_size: reader.size("intermediate_size")?,
        num_hidden_layers: reader.size("num_hidden_layers")?,
        num_attention_heads: reader.size("num_attention_heads")?,
        num_key_value_heads: reader.optional("num_key_value_heads", "a whole number", as_size)?,
        // The defaults of transformers' LlamaConfig.
        rms_norm_eps: reader.optional("rms_norm_eps", "a number", Value::as_f64)?.unwrap_or(1e-6),
        rope_theta: reader.rope_theta()?,
        tie_word_embeddings: reader
            .optional("tie_word_embeddings", "true or false", Value::as_bool)?
            .unwrap_or(false),
        max_position_embeddings: reader
            .optional("max_position_embeddings", "a whole number", as_size)?
            .unwrap_or(2048),
        initializer_range: reader.optional("initializer_range", "a number", Value::as_f64)?.unwrap_or(0.02),
        ..LlamaConfig::new(0, 0, 0, 0, 0)
    };
    config.validate().map_err(|error| match error {
        Error::Config { key, reason } => reader.error(key.strip_prefix("model.").unwrap_or(&key), reason),
        other => other,
    })?;
    if let Some(size) = reader.optional("head_dim", "a whole number", as_size)?
        && size != config.head_size()
    {
        let expected =
            format!("is {size}; only hidden_size / num_attention_heads = {} can be used", config.head_size());
        return Err(reader.error("head_dim", expected));
    }
    Ok(config)
}

/// The `config.json` of a model with parameters of kind `dtype`.
#[must_use]
pub fn write_config(config: &LlamaConfig, dtype: Dtype) -> Value {
    let theta = config.rope_theta;
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.key_value_heads(),
        "head_dim": config.head_size(),
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        // transformers before 5, and from 5 on.
        "rope_theta": theta,
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        "tie_word_embeddings": config.tie_word_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
        "initializer_range": config.initializer_range,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "mlp_bias": false,
        "bos_token_id": null,
        "eos_token_id": null,
        "torch_dtype": match dtype {
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
        },
    })
}

struct Reader<'a> {
    path: &'a Path,
    keys: &'a Map<String, Value>,
}

fn as_size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

impl Reader<'_> {
    fn error(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::HuggingFaceKey { path: self.path.into(), key: key.into(), reason: reason.into() }
    }

    fn check_keys(&self) -> Result<()> {
        let fixed = fixed();
        for (key, value) in self.keys {
            if value.is_null() || READ.contains(&key.as_str()) || IGNORED.contains(&key.as_str()) {
                continue;
            }
            match fixed.iter().find(|(name, _)| name == key) {
                Some((_, values)) if values.contains(value) => {}
                Some((_, values)) => {
                    let only = values.first().unwrap_or(&Value::Null);
                    return Err(self.error(key, format!("is {value}; this model computes only {only}")));
                }
                None => {
                    let reason = format!(
                        "is {value}, and this key is not known here: it may change what the model computes. \
                         If it does not, remove it"
                    );
                    return Err(self.error(key, reason));
                }
            }
        }
        let architectures = self.optional("architectures", "a list of names", |value| {
            value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        })?;
        match architectures.as_deref() {
            None | Some([]) => Ok(()),
            Some([name]) if name == "LlamaForCausalLM" => Ok(()),
            Some(names) => {
                Err(self.error("architectures", format!("is {names:?}; only LlamaForCausalLM can be used")))
            }
        }
    }

    /// `None` where the key is missing or null.
    fn optional<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => Err(self.error(key, format!("is {value}, must be {expected}"))),
            },
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.optional(key, "a whole number", as_size)?.ok_or_else(|| self.error(key, "is missing"))
    }

    /// The base, in whichever spelling, where both must agree; no scaling.
    fn rope_theta(&self) -> Result<f64> {
        let outer = self.optional("rope_theta", "a number", Value::as_f64)?;
        let mut found = outer;
        for key in ["rope_parameters", "rope_scaling"] {
            let Some(object) = self.optional(key, "an object", |value| value.as_object().cloned())? else {
                continue;
            };
            for (inner, value) in &object {
                let name = format!("{key}.{inner}");
                match inner.as_str() {
                    // `type` is what transformers called it first.
                    "rope_type" | "type" if value == "default" => {}
                    "rope_type" | "type" => {
                        let reason =
                            format!("is {value}; only \"default\" can be used: frequencies are not scaled");
                        return Err(self.error(&name, reason));
                    }
                    "rope_theta" => {
                        let theta = value
                            .as_f64()
                            .ok_or_else(|| self.error(&name, format!("is {value}, must be a number")))?;
                        if outer.is_some_and(|outer| outer != theta) {
                            return Err(self.error(&name, format!("is {theta}, but `rope_theta` is another")));
                        }
                        found = Some(theta);
                    }
                    "partial_rotary_factor" if value.as_f64() == Some(1.0) => {}
                    _ if value.is_null() => {}
                    _ => return Err(self.error(&name, format!("is {value}; this model has no such setting"))),
                }
            }
        }
        Ok(found.unwrap_or(1e4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "vocab_size": 50, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 1e5,
            "tie_word_embeddings": true, "max_position_embeddings": 64, "initializer_range": 0.04,
            "use_cache": true, "rope_scaling": null, "torch_dtype": "bfloat16", "pretraining_tp": 1,
        })
    }

    fn read(config: &Value) -> Result<LlamaConfig> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        read_config(&path)
    }

    fn with(key: &str, value: Value) -> Value {
        let mut config = base();
        config[key] = value;
        config
    }

    #[test]
    fn what_is_written_is_read() {
        let mut config = read(&base()).unwrap();
        assert_eq!((config.rope_theta, config.key_value_heads(), config.tie_word_embeddings), (1e5, 2, true));
        for (theta, heads, tied) in [(1e4, 4, false), (123.456, 1, true)] {
            config.rope_theta = theta;
            config.num_key_value_heads = Some(heads);
            config.tie_word_embeddings = tied;
            assert_eq!(read(&write_config(&config, Dtype::F32)).unwrap(), config);
        }
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let sizes = json!({"vocab_size": 50, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 4});
        let config = read(&sizes).unwrap();
        assert_eq!((config.rms_norm_eps, config.rope_theta, config.initializer_range), (1e-6, 1e4, 0.02));
        assert_eq!((config.key_value_heads(), config.max_position_embeddings), (4, 2048));
        assert!(!config.tie_word_embeddings);
    }

    #[test]
    fn both_spellings_of_the_rotary_base_are_read() {
        let mut new = base();
        new.as_object_mut().unwrap().remove("rope_theta");
        assert_eq!(read(&new).unwrap().rope_theta, 1e4);
        new["rope_parameters"] = json!({"rope_theta": 5e5, "rope_type": "default"});
        assert_eq!(read(&new).unwrap().rope_theta, 5e5);
        new["rope_theta"] = json!(500_000);
        assert_eq!(read(&new).unwrap().rope_theta, 5e5);
        new["rope_theta"] = json!(1e4);
        assert!(read(&new).unwrap_err().to_string().contains("`rope_parameters.rope_theta`"));
    }

    #[test]
    fn what_would_change_the_mathematics_is_an_error_that_names_the_key() {
        let cases = [
            ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), "rope_scaling.factor"),
            ("rope_scaling", json!({"type": "linear"}), "rope_scaling.type"),
            ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e5}), "rope_parameters.rope_type"),
            (
                "rope_parameters",
                json!({"partial_rotary_factor": 0.5}),
                "rope_parameters.partial_rotary_factor",
            ),
            ("attention_bias", json!(true), "attention_bias"),
            ("mlp_bias", json!(true), "mlp_bias"),
            ("hidden_act", json!("gelu"), "hidden_act"),
            ("model_type", json!("mistral"), "model_type"),
            ("architectures", json!(["LlamaForSequenceClassification"]), "architectures"),
            ("head_dim", json!(8), "head_dim"),
            ("attention_dropout", json!(0.1), "attention_dropout"),
            ("sliding_window", json!(4096), "sliding_window"),
            ("quantization_config", json!({"bits": 4}), "quantization_config"),
            ("logit_scale", json!(0.5), "logit_scale"),
            ("vocab_size", json!("many"), "vocab_size"),
            ("vocab_size", json!(null), "vocab_size"),
            ("num_key_value_heads", json!(3), "num_key_value_heads"),
            ("hidden_size", json!(-1), "hidden_size"),
        ];
        for (key, value, named) in cases {
            let message = read(&with(key, value)).unwrap_err().to_string();
            assert!(message.contains(&format!("config.json: `{named}`:")), "{key}: {message}");
        }
        assert!(read(&json!([1])).is_err());
    }
}
