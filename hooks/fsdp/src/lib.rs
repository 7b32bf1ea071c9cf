//! A fully sharded training loop on tch, with a Llama-architecture model, that lends itself to a
//! [`hessian_probe`].
//!
//! Every rank owns `1/world_size` of each block's parameters, gradient and optimizer state. A block (the
//! embedding, a layer, the head) is whole on a rank only while it runs. One step, and what a rank holds;
//! `n` parameters, `W` ranks, `n_b` those of the largest block, `x` one block's input:
//!
//! ```text
//!                                                        held between steps: θ, m, v, g    4 n/W
//! ┌─ Trainer::run ─────────────────────────────────────────────────────────────────────────────────┐
//! │ callbacks: on_train_begin                                                                      │
//! │ every step                                                                         on top of it│
//! │ │ for each micro-batch                                                                         │
//! │ │ │ forward, for each block:    all-gather ── run, no graph ── keep input ── free    n_b + Σ x │
//! │ │ │ head:                       all-gather ── run ── loss ── gradients ── free                 │
//! │ │ │ backward, last block first: all-gather ── run again ── gradients ── free     2 n_b + Σ x + │
//! │ │ │                             reduce-scatter, added to g          one block's activations    │
//! │ │ callbacks: on_before_optimizer_step        g is live; a probe here takes n/W more            │
//! │ │ all-reduce of (loss, |g|²) ── clip ── AdamW on the shards                 2 n_b/W            │
//! │ │ callbacks: on_step_end                     g is free: a probe's gradients go there           │
//! │ │ where due, a checkpoint: shards ── callbacks: on_save_checkpoint ── publish                  │
//! │ callbacks: on_train_end      (on_exception, where something fails)                             │
//! └────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! With tied embeddings the head needs the embedding, too, and two blocks are gathered for its duration.
//! [`GatherMeter`] counts what is gathered.
//!
//! With `[passes] prefetch = true` the next block is on its way while one computes, and another `n_b` is held. `recompute =
//! false` is for models that fit: a block runs once and keeps its graph, and all `n` parameters stay gathered until its
//! backward pass ([`PassConfig`]). Neither changes a bit of any result.
//!
//! Results do not depend on the number of ranks but for the order of sums: initial values and batches are
//! functions of the seed and of global indices, the loss is the mean over the counted targets of *all*
//! ranks. On one rank the gradient equals that of a whole-graph backward pass bit for bit, with dropout,
//! too. Only dropout masks differ: each rank draws its own from a generator seeded with (seed, rank).
//!
//! # Example
//! One process; under torchrun or a [`Launcher`](hessian_probe_c10d::Launcher),
//! [`ProcessGroup::from_env`](hessian_probe_c10d::ProcessGroup::from_env) gives the group instead.
//!
//! ```
//! use hessian_probe::Host;
//! use hessian_probe_c10d::ProcessGroup;
//! use hessian_probe_fsdp::{Corpus, LlamaConfig, Trainer, TrainerConfig};
//!
//! let model: LlamaConfig = serde_json::from_str(
//!     r#"{"vocab_size": 256, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2,
//!         "num_attention_heads": 2, "tie_word_embeddings": true}"#,
//! )?;
//! let mut config = TrainerConfig::new(model, 8, 16);
//! config.threads = Some(1);
//! config.optimizer.lr = 3e-3;
//! config.optimizer.clip_norm = Some(1.0);
//!
//! let text = "How much wood would a woodchuck chuck? ".repeat(50);
//! let corpus = Corpus::from_bytes(text.into_bytes(), 0.2)?;
//! let mut trainer = Trainer::new(config, ProcessGroup::single(), corpus)?;
//!
//! let mut losses = Vec::new();
//! trainer.run(20, &mut [], |report| losses.push(report.loss))?;
//! assert!(losses[19] < losses[0]);
//!
//! // What a probe does, which would be among the callbacks of `run`:
//! trainer.probe_on_validation(16)?;
//! let gradient = trainer.gradient()?;
//! assert_eq!(gradient.tensors.len(), trainer.shards().len());
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! # Checkpoints
//! [`Trainer::save`] writes what all ranks hold, [`Trainer::resume`] goes on from it: bit for bit on the same
//! number of ranks, and on any other. Models come from Hugging Face's form or a GGUF file with
//! [`Trainer::from_model`], and go to Hugging Face's form with [`Trainer::export_hugging_face`]. The format, and what holds when a
//! process is killed or a disk is full, is on the page of [`checkpoint`].
//!
//! # Without training
//! An [`Evaluation`] has the loss and the gradient of a model in Hugging Face's form on sequences of any lengths,
//! sharded as in training, but holds no optimizer state.
//!
//! # Precision
//! | key | what is in this type | PyTorch's name for it | default |
//! |---|---|---|---|
//! | `dtype` | shards, gradient shards, checkpoints | the type of the model's parameters | f32 |
//! | `mixed_precision.param_dtype` | what is gathered; shards are cast before | `MixedPrecisionPolicy.param_dtype` | `dtype` |
//! | `mixed_precision.compute_dtype` | parameters, activations and gradients of a pass | `param_dtype`, too | `param_dtype` |
//! | `mixed_precision.reduce_dtype` | the reduce-scatter, cast to and summed in | `MixedPrecisionPolicy.reduce_dtype` | `param_dtype` |
//! | `optimizer.state_dtype` | AdamW's moments | the parameters', always | `dtype` |
//!
//! **f32 masters** (`param_dtype = "bf16"`): half the traffic of f32; sums over micro-batches, moments and updates are
//! f32. **bf16 parameters** (`dtype = "bf16"`): everything is bf16, as with PyTorch's optimizers on such a model; an
//! update of less than half a parameter's last bit is lost, so that training falls behind that in f32 (`cargo test -p
//! hessian-probe-fsdp --test mixed_precision losses -- --nocapture` shows how far). Gradients of micro-batches are added
//! up in `dtype`.
//!
//! In f32 whatever the rest is in: the mean square and the division of RMSNorm, the sums of softmax, the tables of rotary
//! angles (then rounded), cross-entropy, of logits that are bf16 (its sum over targets is f64), and the arithmetic of
//! AdamW, whose results are rounded once, where they are kept. Attention's scores and probabilities and the residual
//! stream are in `compute_dtype`. With tied embeddings the two parts of the gradient are cast and added one by one.
//! Rounding happens on one rank as on many.
//!
//! A probe with `[hvp] precision = "full"` evaluates in f32 while training stays as it is: gathered, computed and
//! reduced in f32 from the masters, or from copies in f32 (`4 n/W` bytes more) where the parameters are bf16. Either
//! way it leaves training's bits alone, and finds what a probe of a training in f32 at the same values would.
//!
//! # Exact products
//! On one rank and with `model.attention = "plain"`, the trainer [offers](hessian_probe::Host::exact_hvp) Hessian-vector
//! products by double backward, for `[hvp] difference = "exact"`: the reference for differences. The graph spans the
//! whole model; what all blocks keep is in memory together.
//!
//! # Not there yet
//! GPUs. They are coming; the parts of the crate are shaped for them.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod engine;
mod error;
pub mod evaluation;
pub mod model;
pub mod optimizer;
pub mod precision;
pub mod sharding;
pub mod trainer;

pub use checkpoint::{Checkpoint, CheckpointConfig, ModelSource, OnSaveError};
pub use config::TrainerConfig;
pub use data::{Corpus, CorpusConfig, Sequence, SequenceId, SequenceSource, TokenCorpus};
pub use engine::{Batch, Engine, PassConfig};
pub use error::{Error, Result};
pub use evaluation::{Evaluation, EvaluationConfig};
pub use model::{Attention, AttentionBias, Llama, LlamaConfig, RopeScaling};
pub use optimizer::{AdamWConfig, LearningRate};
pub use precision::{Dtype, MixedPrecision};
pub use sharding::GatherMeter;
pub use trainer::{ProbeBatch, RunReport, StepReport, Trainer};
