//! Text that a tokenizer has turned into numbers.

use super::windows::{random_window, split, window_in_turn};
use super::{Sequence, SequenceId, SequenceSource};
use crate::error::{Error, Result};

/// Tokens to train on, and tokens to validate on.
///
/// ```
/// use hessian_probe_fsdp::{SequenceSource, TokenCorpus};
///
/// let corpus = TokenCorpus::new((0..1000).collect(), 1000, 0.1)?;
/// assert_eq!(corpus.validation(0, 3)?.inputs, [900, 901, 902]);
/// # Ok::<(), hessian_probe_fsdp::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenCorpus {
    training: Vec<u32>,
    validation: Vec<u32>,
    vocab_size: usize,
}

impl TokenCorpus {
    /// The corpus of `tokens` below `vocab_size`, the last part of which (`validation`, a fraction) is for
    /// validation.
    ///
    /// # Errors
    /// [`Data`](Error::Data) with the first token that is too large; [`Config`](Error::Config) when the fraction is
    /// not in `(0, 1)`.
    pub fn new(tokens: Vec<u32>, vocab_size: usize, validation: f64) -> Result<Self> {
        if let Some(place) = tokens.iter().position(|&token| token as usize >= vocab_size) {
            let token = tokens.get(place).copied().unwrap_or_default();
            return Err(Error::Data(format!("token {place} is {token}; the vocabulary has {vocab_size}")));
        }
        let (training, validation) = split(tokens, validation)?;
        Ok(Self { training, validation, vocab_size })
    }
}

impl SequenceSource for TokenCorpus {
    /// A window at a random offset, drawn by a hash of `id`.
    fn training(&self, id: SequenceId, length: usize) -> Result<Sequence> {
        random_window(&self.training, id, length)
    }

    /// Windows one behind the other, from the start again after the last.
    fn validation(&self, index: u64, length: usize) -> Result<Sequence> {
        window_in_turn(&self.validation, index, length)
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_outside_of_the_vocabulary_is_named() {
        let error = TokenCorpus::new(vec![1, 7, 3], 7, 0.5).unwrap_err().to_string();
        assert!(error.contains("token 1 is 7; the vocabulary has 7"), "{error}");
    }
}
