//! Small models in the forms that people have them in.

use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::checkpoint::huggingface::write_config;
use hessian_probe_fsdp::{
    Dtype, Evaluation, EvaluationConfig, Llama, LlamaConfig, ModelSource, TokenCorpus, Trainer, TrainerConfig,
};
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use std::path::Path;
use tch::{Device, Kind};

/// One layer with as few weights as there can be.
#[must_use]
pub fn config() -> LlamaConfig {
    LlamaConfig {
        num_key_value_heads: Some(1),
        tie_word_embeddings: true,
        max_position_embeddings: 8,
        ..LlamaConfig::new(5, 4, 3, 1, 2)
    }
}

/// Name and shape of each weight.
#[must_use]
pub fn weights(config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
    let model = Llama::new(config.clone(), Kind::Float, Device::Cpu).expect("a model");
    let parameters = model.blocks().iter().flat_map(|block| &block.parameters);
    parameters
        .map(|spec| (spec.name.clone(), spec.shape.iter().map(|&size| size as usize).collect()))
        .collect()
}

/// `config.json` of a model.
#[must_use]
pub fn config_json(config: &LlamaConfig) -> Vec<u8> {
    serde_json::to_vec(&write_config(config, Dtype::F32)).expect("JSON")
}

/// A safetensors file with weights whose number `keep` is true for.
#[must_use]
pub fn safetensors(config: &LlamaConfig, keep: impl Fn(usize) -> bool) -> Vec<u8> {
    let all = weights(config);
    let chosen: Vec<_> =
        all.iter().enumerate().filter(|(index, _)| keep(*index)).map(|(_, weight)| weight).collect();
    let data: Vec<Vec<u8>> = chosen
        .iter()
        .map(|(_, shape)| {
            (0..shape.iter().product::<usize>()).flat_map(|k| (k as f32 / 64.0).to_le_bytes()).collect()
        })
        .collect();
    let views = chosen.iter().zip(&data).map(|((name, shape), data)| {
        (name.as_str(), TensorView::new(FileDtype::F32, shape.clone(), data).expect("a view"))
    });
    safetensors::serialize(views, None).expect("a file")
}

/// Opens a model and reads all of its weights, as `hessian-probe spectrum` does.
///
/// # Errors
/// As [`ModelSource::open`] and [`Evaluation::new`].
pub fn open(path: &Path) -> hessian_probe_fsdp::Result<()> {
    tch::set_num_threads(1);
    let group = ProcessGroup::single();
    let source = ModelSource::open(path)?;
    let evaluation = Evaluation::new(&source, &group, EvaluationConfig::default())?;
    assert_eq!(evaluation.model().vocab_size, source.config().vocab_size);
    Ok(())
}

/// A training of [`config`] on one rank.
#[must_use]
pub fn trainer() -> Trainer {
    let mut config = TrainerConfig::new(config(), 1, 4);
    config.threads = Some(1);
    let corpus = TokenCorpus::new((0..60).map(|k| k * k % 5).collect(), 5, 0.2).expect("tokens");
    Trainer::new(config, ProcessGroup::single(), corpus).expect("a trainer")
}
