//! Where sequences come from: a pure function of their place in training.

mod corpus;
mod tokens;
mod windows;

pub use corpus::{Corpus, CorpusConfig};
pub use tokens::TokenCorpus;

use crate::error::Result;

/// The place of a sequence in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceId {
    /// The trainer's seed.
    pub seed: u64,
    /// The optimizer step, counted from 0.
    pub step: u64,
    /// The micro-batch within the step.
    pub micro_step: u64,
    /// The sequence within the global batch of all ranks.
    pub index: u64,
}

/// Tokens and, for each, the target that should follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Tokens.
    pub inputs: Vec<i64>,
    /// The target at each position, or [`IGNORE_INDEX`](crate::model::IGNORE_INDEX).
    pub labels: Vec<i64>,
}

/// A supply of sequences.
///
/// Both methods are pure functions, equal on all ranks: the same arguments give the same sequence. A
/// rank asks only for its own part of the global batch, so the batch is the same on any number of ranks.
pub trait SequenceSource {
    /// The training sequence of `length` tokens at `id`.
    ///
    /// # Errors
    /// [`Data`](crate::Error::Data) where there is none of that length.
    fn training(&self, id: SequenceId, length: usize) -> Result<Sequence>;

    /// Validation sequence number `index`, of `length` tokens.
    ///
    /// # Errors
    /// As [`training`](Self::training).
    fn validation(&self, index: u64, length: usize) -> Result<Sequence>;

    /// The number of different tokens, which must not exceed the model's vocabulary.
    fn vocab_size(&self) -> usize;
}
