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
//! `LlamaForCausalLM`, `Qwen2ForCausalLM` and `Qwen3ForCausalLM`:
//! - weights of kind f32, f16, bf16 or f64, in one file or several; with tied embeddings, an `lm_head.weight` in the
//!   file is not looked at;
//! - grouped-query attention; heads of any even size (`head_dim`);
//! - biases: `attention_bias`, `mlp_bias`, those of Qwen2; Qwen3's norms of each head's queries and keys;
//! - rotary embeddings of the types `default`, `linear` and `llama3`, as `rope_theta` and `rope_scaling` or in
//!   `rope_parameters`, and a `longrope` that treats short and long texts alike.
//!
//! Keys of `config.json` fall into three classes: those that this model has; those that must have the one value that
//! it computes, as `hidden_act = "silu"`, no `quantization_config`, or no sliding window in use; and those that
//! change nothing here, as `transformers_version`. **Any other key is an error**, since it may change what the model
//! computes.
//!
//! A rank maps the files into memory and reads its own slices: it never holds more than its shards and
//! a piece of one tensor. The files must not be changed meanwhile.
//!
//! # What is written
//! The same form, as the first of the three architectures that has the model's variations, with both spellings of the
//! rotary embeddings, in the kind of the trainer's parameters. What is
//! read back has the same bits. Dropout is not part of the form.

mod config;
mod export;
mod family;
mod keys;
mod rope;
mod weights;

pub use config::{read_config, write_config};
pub(super) use weights::Weights;
