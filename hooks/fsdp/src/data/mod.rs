//! Where sequences come from: a pure function of their place in training.

mod corpus;
mod tokens;
mod windows;

pub use corpus::{Corpus, CorpusConfig};
pub use tokens::TokenCorpus;

use crate::error::Result;

/// The place of a sequence in training.
///
/// ```
/// use hessian_probe_fsdp::{Corpus, SequenceId, SequenceSource};
///
/// let corpus = Corpus::from_bytes(b"How much wood would a woodchuck chuck?".to_vec(), 0.3)?;
/// let id = SequenceId { seed: 0, step: 12, micro_step: 0, index: 3 };
/// assert_eq!(corpus.training(id, 8)?, corpus.training(id, 8)?);
/// # Ok::<(), hessian_probe_fsdp::Error>(())
/// ```
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
///
/// ```
/// use hessian_probe_fsdp::Sequence;
/// use hessian_probe_fsdp::model::IGNORE_INDEX;
///
/// // A question, of which nothing is counted, and its answer.
/// let tokens = [7, 11, 13, 2];
/// let answer = Sequence { inputs: tokens[..3].to_vec(), labels: vec![IGNORE_INDEX, tokens[2], tokens[3]] };
/// assert_eq!(answer.inputs.len(), answer.labels.len());
/// ```
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
///
/// ```
/// use hessian_probe_fsdp::{Result, Sequence, SequenceId, SequenceSource};
///
/// /// Counting, modulo ten.
/// struct Counting;
///
/// impl SequenceSource for Counting {
///     fn training(&self, id: SequenceId, length: usize) -> Result<Sequence> {
///         self.validation(id.step + id.index, length)
///     }
///     fn validation(&self, index: u64, length: usize) -> Result<Sequence> {
///         let number = |i: usize| (index as i64 + i as i64) % 10;
///         Ok(Sequence { inputs: (0..length).map(number).collect(), labels: (1..=length).map(number).collect() })
///     }
///     fn vocab_size(&self) -> usize {
///         10
///     }
/// }
///
/// assert_eq!(Counting.validation(8, 3)?, Sequence { inputs: vec![8, 9, 0], labels: vec![9, 0, 1] });
/// # Ok::<(), hessian_probe_fsdp::Error>(())
/// ```
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
