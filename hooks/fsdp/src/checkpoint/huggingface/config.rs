//! `config.json`, both ways.

use super::family::Family;
use super::keys::{IGNORED, READ, fixed};
use super::rope::{read_rope, write_rope};
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
    let family = Family::read(&reader)?;

    let (rope_theta, rope_scaling) = read_rope(&reader)?;
    let num_hidden_layers = reader.size("num_hidden_layers")?;
    family.check_windows(&reader, num_hidden_layers)?;
    let config = LlamaConfig {
        num_key_value_heads: match reader.contains("num_key_value_heads") {
            true => reader.optional("num_key_value_heads", "a whole number", as_size)?,
            false => family.default_key_value_heads(),
        },
        head_dim: reader.optional("head_dim", "a whole number", as_size)?.or(family.default_head_dim()),
        // The defaults of transformers.
        rms_norm_eps: reader.optional("rms_norm_eps", "a number", Value::as_f64)?.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        attention_bias: family.attention_bias(&reader)?,
        mlp_bias: family.mlp_bias(&reader)?,
        qk_norm: family.qk_norm(),
        tie_word_embeddings: reader
            .optional("tie_word_embeddings", "true or false", Value::as_bool)?
            .unwrap_or(false),
        max_position_embeddings: reader
            .optional("max_position_embeddings", "a whole number", as_size)?
            .unwrap_or(family.default_positions()),
        initializer_range: reader.optional("initializer_range", "a number", Value::as_f64)?.unwrap_or(0.02),
        ..LlamaConfig::new(
            reader.size("vocab_size")?,
            reader.size("hidden_size")?,
            reader.size("intermediate_size")?,
            num_hidden_layers,
            reader.size("num_attention_heads")?,
        )
    };
    config.validate().map_err(|error| match error {
        Error::Config { key, reason } => reader.error(key.strip_prefix("model.").unwrap_or(&key), reason),
        other => other,
    })?;
    // One spelling of one model, so that configurations can be compared.
    let spelled_out = config.head_dim.filter(|&size| size * config.num_attention_heads != config.hidden_size);
    Ok(LlamaConfig { head_dim: spelled_out, ..config })
}

/// The `config.json` of a model with parameters of kind `dtype`.
#[must_use]
pub fn write_config(config: &LlamaConfig, dtype: Dtype) -> Value {
    let family = Family::of(config);
    let mut value = json!({
        "architectures": [family.architecture()],
        "model_type": family.model_type(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.key_value_heads(),
        "head_dim": config.head_size(),
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "max_position_embeddings": config.max_position_embeddings,
        "initializer_range": config.initializer_range,
        "attention_dropout": 0.0,
        "bos_token_id": null,
        "eos_token_id": null,
        "torch_dtype": match dtype {
            Dtype::Bf16 => "bfloat16",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
        },
    });
    if let Value::Object(keys) = &mut value {
        family.write(config, keys);
        write_rope(config, keys);
    }
    value
}

/// The keys of a file, which errors name.
pub(super) struct Reader<'a> {
    path: &'a Path,
    keys: &'a Map<String, Value>,
}

pub(super) fn as_size(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

impl Reader<'_> {
    pub(super) fn error(&self, key: &str, reason: impl Into<String>) -> Error {
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
        Ok(())
    }

    /// `None` where the key is missing or null.
    pub(super) fn optional<T>(
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

    pub(super) fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.optional(key, "a whole number", as_size)?.ok_or_else(|| self.error(key, "is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttentionBias, RopeScaling};

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
        let config = read(&base()).unwrap();
        assert_eq!((config.rope_theta, config.key_value_heads(), config.tie_word_embeddings), (1e5, 2, true));
        let llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 16,
        };
        let factors = RopeScaling::Factors { factors: vec![1.0, 2.5] };
        let mut written = 0;
        for rope_scaling in [RopeScaling::Default, RopeScaling::Linear { factor: 2.0 }, llama3, factors] {
            for (attention_bias, mlp_bias, qk_norm) in [
                (AttentionBias::None, false, false),
                (AttentionBias::None, true, false),
                (AttentionBias::All, true, false),
                (AttentionBias::Inputs, false, false),
                (AttentionBias::None, false, true),
                (AttentionBias::All, false, true),
            ] {
                for (theta, heads, tied) in [(1e4, 4, false), (123.456, 1, true)] {
                    let config = LlamaConfig {
                        rope_theta: theta,
                        num_key_value_heads: Some(heads),
                        tie_word_embeddings: tied,
                        rope_scaling: rope_scaling.clone(),
                        attention_bias,
                        mlp_bias,
                        qk_norm,
                        ..config.clone()
                    };
                    assert_eq!(read(&write_config(&config, Dtype::F32)).unwrap(), config);
                    written += 1;
                }
            }
        }
        assert_eq!(written, 48);
        let wide = LlamaConfig { head_dim: Some(6), ..config };
        assert_eq!(read(&write_config(&wide, Dtype::F32)).unwrap(), wide);
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

    /// Llama 3's own directories have the old spelling alone, most others by now the new one.
    #[test]
    fn either_spelling_alone_says_all_of_llama3() {
        let scaling = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        let expected = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let mut old = with("rope_scaling", scaling.clone());
        old["rope_theta"] = json!(500_000.0);
        let found = read(&old).unwrap();
        assert_eq!((found.rope_theta, &found.rope_scaling), (5e5, &expected));

        let mut new = with("rope_parameters", scaling);
        new.as_object_mut().unwrap().remove("rope_theta");
        new["rope_parameters"]["rope_theta"] = json!(500_000.0);
        let found = read(&new).unwrap();
        assert_eq!((found.rope_theta, &found.rope_scaling), (5e5, &expected));
        // Two that differ are nobody's.
        new["rope_scaling"] = json!({"type": "linear", "factor": 2.0});
        assert!(read(&new).unwrap_err().to_string().contains("`rope_scaling`"));
    }

    #[test]
    fn what_would_change_the_mathematics_is_an_error_that_names_the_key() {
        let cases = [
            ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), "rope_scaling.low_freq_factor"),
            ("rope_scaling", json!({"type": "linear"}), "rope_scaling.factor"),
            ("rope_scaling", json!({"type": "linear", "factor": "2"}), "rope_scaling.factor"),
            (
                "rope_scaling",
                json!({"type": "linear", "factor": 2.0, "beta_fast": 1}),
                "rope_scaling.beta_fast",
            ),
            ("rope_scaling", json!({"type": "linear", "rope_type": "default"}), "rope_scaling.type"),
            ("rope_scaling", json!({"type": "dynamic", "factor": 2.0}), "rope_scaling.type"),
            (
                "rope_parameters",
                json!({"rope_type": "longrope", "short_factor": [1, 1], "long_factor": [1, 2], "attention_factor": 1}),
                "rope_parameters.long_factor",
            ),
            ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e5}), "rope_parameters.rope_type"),
            (
                "rope_parameters",
                json!({"partial_rotary_factor": 0.5}),
                "rope_parameters.partial_rotary_factor",
            ),
            ("attention_bias", json!("yes"), "attention_bias"),
            ("mlp_bias", json!(1), "mlp_bias"),
            ("hidden_act", json!("gelu"), "hidden_act"),
            ("model_type", json!("mistral"), "model_type"),
            ("architectures", json!(["LlamaForSequenceClassification"]), "architectures"),
            ("head_dim", json!(7), "head_dim"),
            ("layer_types", json!(["full_attention", "sliding_attention"]), "layer_types"),
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

    #[test]
    fn families_differ_in_what_a_missing_key_means() {
        let of = |model_type: &str, architecture: &str| {
            let mut config = with("model_type", json!(model_type));
            config["architectures"] = json!([architecture]);
            config
        };
        let qwen2 = read(&of("qwen2", "Qwen2ForCausalLM")).unwrap();
        assert_eq!(
            (qwen2.attention_bias, qwen2.qk_norm, qwen2.head_size()),
            (AttentionBias::Inputs, false, 4)
        );
        let qwen3 = read(&of("qwen3", "Qwen3ForCausalLM")).unwrap();
        assert_eq!(
            (qwen3.attention_bias, qwen3.qk_norm, qwen3.head_size()),
            (AttentionBias::None, true, 128)
        );
        let error = read(&of("qwen2", "Qwen3ForCausalLM")).unwrap_err().to_string();
        assert!(error.contains("`architectures`") && error.contains("Qwen2ForCausalLM"), "{error}");

        // The window is in use from layer `max_window_layers` on.
        let mut sliding = of("qwen2", "Qwen2ForCausalLM");
        sliding["use_sliding_window"] = json!(true);
        sliding["sliding_window"] = json!(32);
        assert!(read(&sliding).is_ok(), "28 layers come before the first with a window");
        sliding["max_window_layers"] = json!(1);
        assert!(read(&sliding).unwrap_err().to_string().contains("`use_sliding_window`"));
        sliding["use_sliding_window"] = json!(false);
        assert!(read(&sliding).is_ok());
        sliding["mlp_bias"] = json!(true);
        assert!(read(&sliding).unwrap_err().to_string().contains("`mlp_bias`"));
    }
}
