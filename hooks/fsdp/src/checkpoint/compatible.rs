//! Whether a checkpoint is one of a trainer's model.

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::trainer::Trainer;

impl Trainer {
    /// Whether the checkpoint is one of this trainer's model; logs what else differs.
    pub(super) fn fits(&self, checkpoint: &Checkpoint) -> Result<()> {
        let (mine, saved) = (self.config(), checkpoint.config());
        let incompatible = |key: &str, mine: String, saved: String| Error::Incompatible {
            path: checkpoint.path().into(),
            key: format!("config.{key}"),
            reason: format!(
                "is {saved}, but this run has {mine}; resume with the configuration of the checkpoint"
            ),
        };
        if mine.dtype != saved.dtype {
            return Err(incompatible("dtype", format!("{:?}", mine.dtype), format!("{:?}", saved.dtype)));
        }
        let moments = [mine, saved].map(|config| config.optimizer.state_dtype.unwrap_or(config.dtype));
        if moments[0] != moments[1] {
            let [mine, saved] = moments.map(|dtype| format!("{dtype:?}"));
            return Err(incompatible("optimizer.state_dtype", mine, saved));
        }
        for (key, mine, saved) in differences(mine, saved) {
            // A limit, initial values, and what regularises or rearranges the same function.
            let free = ["max_position_embeddings", "initializer_range", "dropout", "attention"];
            match key.strip_prefix("model.") {
                Some(model) if !free.contains(&model) => return Err(incompatible(&key, mine, saved)),
                _ if self.group().rank() == 0 && !key.starts_with("checkpoint") => log::warn!(
                    "{}: `config.{key}` was {saved} and is {mine} from now on",
                    checkpoint.path().display()
                ),
                _ => {}
            }
        }
        let layouts = self.engine().parameters().layouts();
        let mut mine = layouts.iter().flat_map(|layout| &layout.parameters).map(|parameter| &parameter.spec);
        for saved in &checkpoint.manifest().parameters {
            let equal = mine.next().is_some_and(|mine| {
                (&mine.name, &mine.shape, self.config().dtype) == (&saved.name, &saved.shape, saved.dtype)
            });
            if !equal {
                let (key, saved) = (format!("parameters.{}", saved.name), format!("{:?}", saved.shape));
                return Err(incompatible(&key, "another parameter there".into(), saved));
            }
        }
        match mine.next() {
            None => Ok(()),
            Some(spec) => {
                Err(incompatible(&format!("parameters.{}", spec.name), "it".into(), "missing".into()))
            }
        }
    }
}

/// The keys of two configurations that have different values, with those; nested keys have dots.
fn differences(mine: &crate::TrainerConfig, saved: &crate::TrainerConfig) -> Vec<(String, String, String)> {
    // The defaults follow from other sizes.
    let spelled_out = |config: &crate::TrainerConfig| {
        let mut config = config.clone();
        config.model.num_key_value_heads = Some(config.model.key_value_heads());
        config.model.head_dim = Some(config.model.head_size());
        serde_json::to_value(config).unwrap_or_default()
    };
    let mut found = Vec::new();
    compare("", &spelled_out(mine), &spelled_out(saved), &mut found);
    found
}

fn compare(
    key: &str,
    mine: &serde_json::Value,
    saved: &serde_json::Value,
    found: &mut Vec<(String, String, String)>,
) {
    use serde_json::Value::Object;
    match (mine, saved) {
        (Object(first), Object(second)) => {
            let dot = if key.is_empty() { "" } else { "." };
            let keys: std::collections::BTreeSet<_> = first.keys().chain(second.keys()).collect();
            for inner in keys {
                let value = |object: &serde_json::Map<_, _>| object.get(inner).cloned().unwrap_or_default();
                compare(&format!("{key}{dot}{inner}"), &value(first), &value(second), found);
            }
        }
        _ if mine == saved => {}
        _ => found.push((key.into(), mine.to_string(), saved.to_string())),
    }
}
