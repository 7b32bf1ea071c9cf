//! A fully sharded training loop on tch.

pub mod config;
pub mod data;
pub mod engine;
mod error;
pub mod model;
pub mod optimizer;
pub mod sharding;
pub mod trainer;

pub use config::{Dtype, TrainerConfig};
pub use data::{Corpus, CorpusConfig, Sequence, SequenceId, SequenceSource};
pub use engine::{Batch, Engine};
pub use error::{Error, Result};
pub use model::{Attention, Llama, LlamaConfig};
pub use optimizer::{AdamWConfig, LearningRate};
pub use sharding::GatherMeter;
pub use trainer::{ProbeBatch, RunReport, StepReport, Trainer};
