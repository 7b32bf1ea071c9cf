//! One line: a sequence in Hugging Face's convention.

use hessian_probe_fsdp::model::IGNORE_INDEX;
use hessian_probe_fsdp::{LlamaConfig, Sequence};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;

/// The keys that are read, as they stand.
#[derive(Debug, Default)]
pub(super) struct Line {
    input_ids: Vec<i64>,
    /// `labels[t]` belongs to the token *at* t; the model shifts.
    labels: Option<Vec<i64>>,
    /// Must say what is so anyway.
    attention_mask: Option<Vec<i64>>,
    position_ids: Option<Vec<i64>>,
    ignored: BTreeSet<String>,
}

impl Line {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| {
            let message = error.to_string();
            // Its own line number is always 1.
            let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
            let kind = if error.is_data() { "" } else { "is not JSON: " };
            format!("{kind}{what} (column {})", error.column())
        })
    }

    /// Whether `model` can run it.
    pub(super) fn check(&self, model: &LlamaConfig) -> Result<(), String> {
        let count = self.input_ids.len();
        let aligned = [
            ("labels", &self.labels),
            ("attention_mask", &self.attention_mask),
            ("position_ids", &self.position_ids),
        ];
        for (key, values) in aligned {
            if let Some(other) = values.as_ref().map(Vec::len).filter(|&other| other != count) {
                return Err(format!("`{key}` has {other} entries, but `input_ids` has {count}"));
            }
        }
        // The last token is a target only.
        if count.saturating_sub(1) > model.max_position_embeddings {
            return Err(format!(
                "`input_ids` has {count} tokens; the model's max_position_embeddings = {} allow {}",
                model.max_position_embeddings,
                model.max_position_embeddings.saturating_add(1)
            ));
        }
        let vocabulary = 0..i64::try_from(model.vocab_size).unwrap_or(i64::MAX);
        for (key, values) in [("input_ids", Some(&self.input_ids)), ("labels", self.labels.as_ref())] {
            let ignored = |value| key == "labels" && value == IGNORE_INDEX;
            let strange = |&(_, value): &(usize, i64)| !vocabulary.contains(&value) && !ignored(value);
            let mut entries = values.into_iter().flatten().copied().enumerate();
            if let Some((index, value)) = entries.find(strange) {
                return Err(format!(
                    "`{key}[{index}]` is {value}, which is not a token of the model's vocabulary (0 to {})",
                    vocabulary.end - 1
                ));
            }
        }
        if let Some(index) = first(self.attention_mask.as_ref(), |_, value| value != 1) {
            return Err(format!(
                "`attention_mask[{index}]` is not 1: padded sequences are not taken; leave the padding out"
            ));
        }
        if let Some(index) =
            first(self.position_ids.as_ref(), |index, value| i64::try_from(index) != Ok(value))
        {
            return Err(format!("`position_ids[{index}]` is not {index}: other positions are not supported"));
        }
        Ok(())
    }

    /// Each token but the last with the label of the next one; `None` where there is no target.
    pub(super) fn into_sequence(mut self, ignored: &mut BTreeSet<String>) -> Option<Sequence> {
        ignored.append(&mut self.ignored);
        let labels = self.labels.as_ref().unwrap_or(&self.input_ids).get(1..)?.to_vec();
        self.input_ids.pop();
        (!labels.is_empty()).then_some(Sequence { inputs: self.input_ids, labels })
    }
}

/// The index of the first value that is wrong.
fn first(values: Option<&Vec<i64>>, wrong: impl Fn(usize, i64) -> bool) -> Option<usize> {
    values?.iter().enumerate().position(|(index, &value)| wrong(index, value))
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not derived: a derived one takes an array for an object.
        deserializer.deserialize_map(LineVisitor)
    }
}

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `input_ids`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
        let mut line = Line::default();
        let mut input_ids = None;
        while let Some(key) = map.next_key::<String>()? {
            let (name, place) = match key.as_str() {
                "input_ids" => ("input_ids", &mut input_ids),
                "labels" => ("labels", &mut line.labels),
                "attention_mask" => ("attention_mask", &mut line.attention_mask),
                "position_ids" => ("position_ids", &mut line.position_ids),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    line.ignored.insert(key);
                    continue;
                }
            };
            if place.is_some() {
                return Err(A::Error::duplicate_field(name));
            }
            let value: Result<Option<Vec<i64>>, _> = map.next_value();
            *place = value.map_err(|error| A::Error::custom(format_args!("`{name}`: {error}")))?;
        }
        line.input_ids = input_ids.ok_or_else(|| A::Error::missing_field("input_ids"))?;
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> LlamaConfig {
        serde_json::from_str(
            r#"{"vocab_size": 9, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
                "num_attention_heads": 1, "max_position_embeddings": 5}"#,
        )
        .unwrap()
    }

    fn read(text: &str) -> Result<Option<Sequence>, String> {
        let line = Line::parse(text.as_bytes())?;
        line.check(&model())?;
        Ok(line.into_sequence(&mut BTreeSet::new()))
    }

    #[test]
    fn labels_belong_to_the_token_before_them() {
        let sequence =
            |inputs: &[i64], labels: &[i64]| Some(Sequence { inputs: inputs.into(), labels: labels.into() });
        assert_eq!(read(r#"{"input_ids": [1, 2, 3]}"#).unwrap(), sequence(&[1, 2], &[2, 3]));
        assert_eq!(
            read(r#"{"labels": [-100, -100, 8], "input_ids": [1, 2, 3]}"#).unwrap(),
            sequence(&[1, 2], &[-100, 8])
        );
        assert_eq!(
            read(r#"{"input_ids": [1, 2], "labels": null, "text": [{}]}"#).unwrap(),
            sequence(&[1], &[2])
        );
        assert_eq!(
            read(r#"{"input_ids": [1, 2], "attention_mask": [1, 1], "position_ids": [0, 1]}"#).unwrap(),
            sequence(&[1], &[2])
        );
        // The longest.
        assert!(read(r#"{"input_ids": [1, 2, 3, 4, 5, 6]}"#).unwrap().is_some());
        for none in [r#"{"input_ids": [1]}"#, r#"{"input_ids": []}"#, r#"{"input_ids": [1], "labels": [1]}"#]
        {
            assert_eq!(read(none).unwrap(), None);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reasons) in [
            ("{", ["is not JSON", "EOF"]),
            ("{\"input_ids\": [1, 2]} x", ["is not JSON", "trailing"]),
            ("[[1, 2]]", ["sequence", "an object with `input_ids`"]),
            ("7", ["7", "an object with `input_ids`"]),
            ("{\"labels\": [1]}", ["missing", "`input_ids`"]),
            ("{\"input_ids\": null}", ["missing", "`input_ids`"]),
            ("{\"input_ids\": [1.0, 2]}", ["`input_ids`", "1.0"]),
            ("{\"input_ids\": \"a\"}", ["`input_ids`", "\"a\""]),
            ("{\"input_ids\": [1, 99999999999999999999]}", ["`input_ids`", "expected i64"]),
            ("{\"input_ids\": [1, 2], \"labels\": [1, null]}", ["`labels`", "null"]),
            ("{\"input_ids\": [1], \"input_ids\": [1]}", ["duplicate", "`input_ids`"]),
            ("{\"input_ids\": [1, 2], \"labels\": [1]}", ["`labels` has 1", "`input_ids` has 2"]),
            ("{\"input_ids\": [1, 9]}", ["`input_ids[1]` is 9", "0 to 8"]),
            ("{\"input_ids\": [-1, 2]}", ["`input_ids[0]` is -1", "0 to 8"]),
            ("{\"input_ids\": [1, -100]}", ["`input_ids[1]` is -100", "0 to 8"]),
            ("{\"input_ids\": [1, 2], \"labels\": [0, -99]}", ["`labels[1]` is -99", "0 to 8"]),
            ("{\"input_ids\": [1, 2, 3, 4, 5, 6, 7]}", ["7 tokens", "max_position_embeddings = 5"]),
            ("{\"input_ids\": [1, 2], \"attention_mask\": [1, 0]}", ["`attention_mask[1]`", "padding"]),
            ("{\"input_ids\": [1, 2], \"position_ids\": [0, 2]}", ["`position_ids[1]`", "not 1"]),
        ] {
            let message = read(text).unwrap_err();
            assert!(reasons.iter().all(|reason| message.contains(reason)), "{text}: {message}");
        }
    }
}
