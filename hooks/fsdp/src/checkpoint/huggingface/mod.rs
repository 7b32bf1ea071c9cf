//! Models in Hugging Face's form: a directory with `config.json` and `model.safetensors`, or
//! `model.safetensors.index.json` and the files that it names. Weights only; no optimizer state, no step.
//!
//! ```no_run
//! # fn run(group: hessian_probe_c10d::ProcessGroup, corpus: hessian_probe_fsdp::Corpus)
//! # -> hessian_probe_fsdp::Result<()> {
//! use hessian_probe_fsdp::{Trainer, TrainerConfig};
//! use std::path::Path;
//!
//! let trainer = Trainer::from_hugging_face(Path::new("SmolLM2-135M"), group, corpus, |mut model| {
//!     model.dropout = 0.1;
//!     TrainerConfig::new(model, 16, 512)
//! })?;
//! trainer.export_hugging_face(Path::new("exported"))?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is read
//! A `LlamaForCausalLM`; weights of kind f32, f16, bf16 or f64, in one file or several; tied or untied
//! embeddings (with tied ones, an `lm_head.weight` in the file is not looked at); the base of the rotary
//! embeddings as `rope_theta` or in `rope_parameters`. Keys of `config.json` fall into three classes: those
//! that this model has; those that must have the one value that this model computes, as `hidden_act =
//! "silu"`, `attention_bias = false` or no `rope_scaling`; and those that change nothing here, as
//! `transformers_version`. **Any other key is an error**, since it may change what the model computes.
//!
//! A rank maps the files into memory and reads its own slices: it never holds more than its shards and
//! a piece of one tensor. The files must not be changed meanwhile.
//!
//! # What is written
//! The same form, with both spellings of the base, in the kind of the trainer's parameters. What is
//! read back has the same bits. Dropout is not part of the form.

mod config;
mod export;
mod import;
mod keys;
mod pretrained;
mod weights;

pub use config::{read_config, write_config};
pub use pretrained::Pretrained;
