//! The sizes of a model: its blocks, and the operations of a token.

use crate::number::count;
use hessian_probe::cost::Block;
use hessian_probe_fsdp::Llama;
use hessian_probe_fsdp::checkpoint::huggingface::read_config;
use hessian_probe_fsdp::engine::{PassConfig, passes};
use std::path::Path;
use tch::{Device, Kind};

/// A model, as far as costs depend on it.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    pub parameters: u64,
    pub blocks: Vec<Block>,
    /// Parameters of matrices that every token is multiplied by.
    pub multiplied: u64,
    /// Layers times the total width of their heads; `None` where that is not known.
    pub attention: Option<u64>,
}

impl Model {
    /// That of a `config.json`, or of the directory that has it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
        let config = read_config(&file).map_err(|error| error.to_string())?;
        let model = Llama::new(config, Kind::Float, Device::Cpu).map_err(|error| error.to_string())?;
        let config = model.config();
        let matrices = |block: &hessian_probe_fsdp::model::BlockSpec| -> u64 {
            let matrices = block.parameters.iter().filter(|parameter| parameter.shape.len() > 1);
            matrices.map(|matrix| matrix.numel() as u64).sum()
        };
        // The embedding is looked up; it is multiplied by where the head borrows it.
        let multiplied: u64 = (model.blocks().iter().skip(1).map(matrices).sum::<u64>())
            + if config.tie_word_embeddings { matrices(&model.blocks()[0]) } else { 0 };
        let width = config.num_attention_heads * config.head_size();
        Ok(Self {
            name: path.display().to_string(),
            parameters: model.parameter_count(),
            blocks: passes(model.blocks(), PassConfig::default()),
            multiplied,
            attention: Some((config.num_hidden_layers * width) as u64),
        })
    }

    /// One of which nothing but the number of parameters is known.
    pub fn of_size(parameters: u64) -> Self {
        Self {
            name: count(parameters),
            parameters,
            blocks: vec![Block { parameters, tensors: 1, gathers: 2, reductions: 1 }],
            multiplied: parameters,
            attention: None,
        }
    }

    /// The parameters of the rank with most of them, and how many tensors it has slices of, at most.
    pub fn share(&self, ranks: u64) -> (u64, u64) {
        let entries = self.blocks.iter().map(|block| block.parameters.div_ceil(ranks.max(1))).sum();
        (entries, self.blocks.iter().map(|block| block.tensors).sum())
    }
}
