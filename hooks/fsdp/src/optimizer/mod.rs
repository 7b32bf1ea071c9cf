//! AdamW on shards, gradient clipping over all ranks, learning-rate schedules.

mod adamw;
mod clip;
mod schedule;
#[cfg(test)]
mod stability;
mod update;

pub use adamw::{AdamW, AdamWConfig};
pub use clip::{clip_coefficient, squared_norm};
pub use schedule::LearningRate;
