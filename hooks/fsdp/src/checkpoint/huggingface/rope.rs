//! The settings of rotary embeddings, in every spelling that there was.
//!
//! `rope_theta` beside an optional `rope_scaling` until transformers 5, `rope_parameters` with both from 5 on;
//! `type` for `rope_type` before 4.45.

use super::config::{Reader, as_size};
use crate::error::{Error, Result};
use crate::model::{LlamaConfig, RopeScaling};
use serde_json::{Map, Value, json};

/// The base and the scaling; where they are spelled twice, both must agree.
pub(super) fn read_rope(reader: &Reader<'_>) -> Result<(f64, RopeScaling)> {
    let outer = reader.optional("rope_theta", "a number", Value::as_f64)?;
    let mut theta = outer;
    let mut found: Option<RopeScaling> = None;
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(object) = reader.optional(key, "an object", |value| value.as_object().cloned())? else {
            continue;
        };
        let mut settings = Settings { reader, key, object };
        if let Some(inner) = settings.optional("rope_theta", "a number", Value::as_f64)? {
            if theta.is_some_and(|theta| theta != inner) {
                return Err(settings.error("rope_theta", format!("is {inner}, but `rope_theta` is another")));
            }
            theta = Some(inner);
        }
        let scaling = settings.scaling()?;
        if found.as_ref().is_some_and(|found| *found != scaling) {
            return Err(reader.error(key, "contradicts `rope_parameters`; remove one of them"));
        }
        found = Some(scaling);
    }
    Ok((theta.unwrap_or(1e4), found.unwrap_or_default()))
}

/// Both spellings, for transformers before 5 and from 5 on.
pub(super) fn write_rope(config: &LlamaConfig, keys: &mut Map<String, Value>) {
    let mut parameters = match &config.rope_scaling {
        RopeScaling::Default => json!({"rope_type": "default"}),
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            })
        }
        // The one type that takes a list. It has two, for short and for long texts, and scales attention.
        RopeScaling::Factors { factors } => json!({
            "rope_type": "longrope",
            "short_factor": factors,
            "long_factor": factors,
            "factor": 1.0,
            "attention_factor": 1.0,
            "original_max_position_embeddings": config.max_position_embeddings,
        }),
    };
    if !config.rope_scaling.is_default() {
        keys.insert("rope_scaling".into(), parameters.clone());
    }
    keys.insert("rope_theta".into(), json!(config.rope_theta));
    if let Value::Object(parameters) = &mut parameters {
        parameters.insert("rope_theta".into(), json!(config.rope_theta));
    }
    keys.insert("rope_parameters".into(), parameters);
}

/// One object of settings, from which what was understood is taken away.
struct Settings<'a> {
    reader: &'a Reader<'a>,
    key: &'static str,
    object: Map<String, Value>,
}

impl Settings<'_> {
    fn error(&self, inner: &str, reason: impl Into<String>) -> Error {
        self.reader.error(&format!("{}.{inner}", self.key), reason)
    }

    fn optional<T>(
        &mut self,
        inner: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.object.remove(inner) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(&value) {
                Some(read) => Ok(Some(read)),
                None => Err(self.error(inner, format!("is {value}, must be {expected}"))),
            },
        }
    }

    fn number(&mut self, inner: &str) -> Result<f64> {
        self.optional(inner, "a number", Value::as_f64)?.ok_or_else(|| self.error(inner, "is missing"))
    }

    fn scaling(&mut self) -> Result<RopeScaling> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let new = self.optional("rope_type", "a name", text)?;
        let old = self.optional("type", "a name", text)?;
        let spelled = if new.is_some() { "rope_type" } else { "type" };
        if let (Some(new), Some(old)) = (&new, &old)
            && new != old
        {
            return Err(self.error("type", format!("is \"{old}\", but `rope_type` is \"{new}\"")));
        }
        let kind = new.or(old).unwrap_or_else(|| "default".into());
        let scaling = match kind.as_str() {
            "default" => RopeScaling::Default,
            "linear" => RopeScaling::Linear { factor: self.number("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: self.number("factor")?,
                low_freq_factor: self.number("low_freq_factor")?,
                high_freq_factor: self.number("high_freq_factor")?,
                original_max_position_embeddings: self
                    .optional("original_max_position_embeddings", "a whole number", as_size)?
                    .ok_or_else(|| self.error("original_max_position_embeddings", "is missing"))?,
            },
            "longrope" => self.factors()?,
            other => {
                let reason = format!(
                    "is \"{other}\"; \"default\", \"linear\", \"llama3\" and a \"longrope\" that treats short and \
                     long texts alike can be used"
                );
                return Err(self.error(spelled, reason));
            }
        };
        let whole = self.optional("partial_rotary_factor", "a number", Value::as_f64)?;
        if let Some(share) = whole.filter(|&share| share != 1.0) {
            let reason = format!("is {share}; only 1.0 can be used: heads are rotated as a whole");
            return Err(self.error("partial_rotary_factor", reason));
        }
        match self.object.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(scaling),
            Some((inner, value)) => {
                let reason = format!("is {value}; rotary embeddings of type \"{kind}\" have no such setting");
                Err(self.error(inner, reason))
            }
        }
    }

    /// One list of divisors, whatever the length of the text.
    fn factors(&mut self) -> Result<RopeScaling> {
        let numbers = |value: &Value| value.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<_>>>();
        let mut list = |inner: &str| {
            let list = self.optional(inner, "a list of numbers", numbers)?;
            list.ok_or_else(|| self.error(inner, "is missing"))
        };
        let (short, long) = (list("short_factor")?, list("long_factor")?);
        if short != long {
            let reason = "differs from `short_factor`; a choice by the text's length is not computed here";
            return Err(self.error("long_factor", reason));
        }
        let attention = self.number("attention_factor")?;
        if attention != 1.0 {
            let reason = format!("is {attention}; only 1.0 can be used: attention is not scaled");
            return Err(self.error("attention_factor", reason));
        }
        // With the attention factor given and one list, neither has a meaning.
        self.optional("factor", "a number", Value::as_f64)?;
        self.optional("original_max_position_embeddings", "a number", Value::as_f64)?;
        Ok(RopeScaling::Factors { factors: short })
    }
}
