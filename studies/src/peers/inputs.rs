//! What all libraries are given: a model, its text, vectors.

use crate::Result;
use crate::models::Saved;
use crate::output::Output;
use crate::programs::Programs;
use crate::{Options, models};
use hessian_probe::Host;
use hessian_probe::config::Distribution;
use hessian_probe::sharded::random::RandomProbe;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Evaluation, EvaluationConfig, ModelSource, Sequence};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// Of the vectors, and of our probe, whose own vectors they are.
pub const SEED: u64 = 0;
/// Tokens of a sequence, and sequences, of the demo's model.
const TOKENS: usize = 128;
const SEQUENCES: usize = 8;

#[derive(Deserialize)]
struct Line {
    input_ids: Vec<i64>,
}

/// The model that the options name, or that of the demo after its training.
///
/// # Errors
/// Where one is named without the other, or the demo fails.
pub fn model(options: &Options, output: &Output) -> Result<Saved> {
    match (&options.model, &options.data) {
        (Some(model), Some(data)) => Ok(Saved { name: "model", model: model.clone(), data: data.clone() }),
        (None, None) => {
            let programs = Programs::beside_this(options.reuse)?;
            models::demo(options, &programs, output, SEQUENCES, TOKENS)
        }
        _ => Err("--model and --data belong together".into()),
    }
}

/// The sequences of a file, without padding: the Python side makes them one batch.
///
/// # Errors
/// Where a line is of another form, or of another length.
pub fn sequences(data: &Path) -> Result<Vec<Sequence>> {
    let text = fs::read_to_string(data).map_err(|error| format!("{}: {error}", data.display()))?;
    let lines = text.lines().map(serde_json::from_str::<Line>).collect::<Result<Vec<_>, _>>()?;
    let length = lines.first().map_or(0, |line| line.input_ids.len());
    if length < 2 || lines.iter().any(|line| line.input_ids.len() != length) {
        return Err(format!(
            "{}: sequences of one length, of two tokens or more, are needed",
            data.display()
        )
        .into());
    }
    let shifted = |Line { input_ids }: Line| Sequence {
        inputs: input_ids[..length - 1].to_vec(),
        labels: input_ids[1..].to_vec(),
    };
    Ok(lines.into_iter().map(shifted).collect())
}

/// Vector number `index`: signs that depend on a parameter's global index only.
pub fn draw(index: u64) -> RandomProbe {
    RandomProbe::new(SEED, index, Distribution::Rademacher)
}

/// Writes `count` vectors of signs over the parameters of `model`; returns where, and n.
///
/// # Errors
/// Where the model cannot be read, or a file not written.
pub fn write_vectors(model: &Path, count: usize, output: &Output) -> Result<(Vec<PathBuf>, u64)> {
    let group = ProcessGroup::single();
    let source = ModelSource::open_together(model, &group)?;
    let host = Evaluation::new(&source, &group, EvaluationConfig::default())?;
    let shards = host.shards();
    let mut paths = Vec::new();
    for index in 0..count {
        let mut tensors = Vec::new();
        for shard in &shards {
            let mut signs = vec![0.0; shard.tensor.numel()];
            draw(index as u64).fill(shard.global_offset, &mut signs);
            tensors.push((shard.name.as_str(), Tensor::f_from_slice(&signs)?.f_to_kind(Kind::Float)?));
        }
        let path = output.path(format!("vector-{index}.safetensors"));
        Tensor::write_safetensors(&tensors, &path)?;
        paths.push(path);
    }
    Ok((paths, host.parameter_count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_but_the_first_is_a_target() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.jsonl");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            sequences(&path)
        };
        let found = read("{\"input_ids\":[1, 2, 3]}\n{\"input_ids\":[4, 5, 6]}\n").unwrap();
        assert_eq!(found[1], Sequence { inputs: vec![4, 5], labels: vec![5, 6] });
        for wrong in ["", "{\"input_ids\":[1]}\n", "{\"input_ids\":[1, 2]}\n{\"input_ids\":[1, 2, 3]}\n"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
