//! How long one gradient of a sharded model takes, where it was not measured.
//!
//! A rank computes its share of the floating-point operations, and is sent the parameters of every block that it runs:
//!
//! seconds = operations ÷ FLOP/s + bytes received and sent ÷ bandwidth,
//!
//! without overlap of the two. A block of N parameters takes 2N operations for each token forward, as many when it runs again
//! (activation checkpointing) and 4N backward; attention takes 4·T·s·w forward, for T tokens in sequences of s and heads of
//! total width w, and as much again with the same factors.

use super::machine::positive;
use crate::error::{Error, Result};
use serde::Serialize;

/// A block of a sharded model: what is gathered, run and freed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its parameters.
    pub parameters: u64,
    /// Its tensors.
    pub tensors: u64,
    /// How often it is gathered in one gradient, for each micro-batch.
    pub gathers: u64,
    /// How often its gradient is reduced and scattered.
    pub reductions: u64,
}

/// What a gradient sends, in bytes of whole buffers, padding included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Buffers gathered from all ranks.
    pub gathered: u64,
    /// Buffers reduced and scattered to them.
    pub reduced: u64,
    /// Collectives.
    pub collectives: u64,
}

impl Traffic {
    /// That of one gradient in `micro_batches` pieces, gathered and reduced in types of so many bytes; none on one rank.
    ///
    /// # Errors
    /// [`Error::Config`] where a number does not fit into 64 bits.
    pub fn of(blocks: &[Block], ranks: u64, micro_batches: u64, [gather, reduce]: [u64; 2]) -> Result<Self> {
        let mut sums = [0_u128; 3];
        for block in blocks.iter().filter(|_| ranks > 1) {
            let padded = u128::from(block.parameters.div_ceil(ranks)) * u128::from(ranks);
            let [gathers, reductions] =
                [block.gathers, block.reductions].map(|count| u128::from(count) * u128::from(micro_batches));
            let terms = [
                gathers.checked_mul(padded * u128::from(gather)),
                reductions.checked_mul(padded * u128::from(reduce)),
                Some(gathers + reductions),
            ];
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum = term.and_then(|term| sum.checked_add(term)).ok_or_else(too_much)?;
            }
        }
        let [gathered, reduced, collectives] = sums.map(u64::try_from);
        let fits = |sum: std::result::Result<u64, _>| sum.map_err(|_| too_much());
        Ok(Self { gathered: fits(gathered)?, reduced: fits(reduced)?, collectives: fits(collectives)? })
    }

    /// Bytes that a rank receives of gathered buffers, and sends of reduced ones: all but its own part.
    #[must_use]
    pub fn received(&self, ranks: u64) -> f64 {
        (self.gathered as f64 + self.reduced as f64) * (1.0 - (ranks.max(1) as f64).recip())
    }
}

fn too_much() -> Error {
    Error::config("plan", "a gradient sends more bytes than 64 bits can count")
}

/// A gradient as a sum of operations and bytes, on one rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GradientWork {
    /// Floating-point operations.
    pub operations: f64,
    /// Bytes received and sent.
    pub bytes: f64,
}

impl GradientWork {
    /// That of a rank that has its share of `tokens`. `multiplied` counts the parameters of matrices that every token is
    /// multiplied by, `attention` is layers × total width of the heads × tokens of a sequence, `again` says whether blocks
    /// run a second time for the backward pass.
    #[must_use]
    pub fn new(
        (multiplied, attention): (u64, f64),
        tokens: u64,
        ranks: u64,
        again: bool,
        traffic: Traffic,
    ) -> Self {
        let passes = if again { 4.0 } else { 3.0 };
        let a_token = 2.0 * multiplied as f64 + 4.0 * attention;
        Self {
            operations: passes * a_token * tokens as f64 / ranks.max(1) as f64,
            bytes: traffic.received(ranks),
        }
    }

    /// Its time at `flops` operations and `bandwidth` bytes a second.
    ///
    /// # Errors
    /// [`Error::Config`] for what is not a positive number.
    pub fn seconds(&self, flops: f64, bandwidth: f64) -> Result<f64> {
        positive("plan.flops", flops)?;
        positive("plan.bandwidth", bandwidth)?;
        Ok(self.operations / flops + self.bytes / bandwidth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_padded_and_one_rank_sends_nothing() {
        let blocks = [
            Block { parameters: 10, tensors: 1, gathers: 2, reductions: 1 },
            Block { parameters: 3, tensors: 1, gathers: 1, reductions: 1 },
        ];
        let traffic = Traffic::of(&blocks, 4, 3, [2, 4]).unwrap();
        // 12 and 4 elements; 3 micro-batches.
        assert_eq!(traffic.gathered, 3 * 2 * (2 * 12 + 4));
        assert_eq!(traffic.reduced, 3 * 4 * (12 + 4));
        assert_eq!(traffic.collectives, 3 * (2 + 1 + 1 + 1));
        assert_eq!(traffic.received(4), 0.75 * (168.0 + 192.0));
        assert_eq!(Traffic::of(&blocks, 1, 3, [2, 4]).unwrap(), Traffic::default());
        let huge = [Block { parameters: u64::MAX, tensors: 1, gathers: u64::MAX, reductions: 0 }];
        assert!(Traffic::of(&huge, 2, u64::MAX, [8, 8]).unwrap_err().to_string().contains("64 bits"));
    }

    #[test]
    fn a_gradient_with_recomputation_takes_eight_operations_for_each_parameter_and_token() {
        let work = GradientWork::new((1000, 0.0), 64, 2, true, Traffic::default());
        assert_eq!(work.operations, 8.0 * 1000.0 * 32.0);
        let whole = GradientWork::new((1000, 5.0), 64, 1, false, Traffic::default());
        assert_eq!(whole.operations, 3.0 * (2000.0 + 20.0) * 64.0);
        assert_eq!(work.seconds(256_000.0, 1.0).unwrap(), 1.0);
        for (flops, bandwidth, key) in [(0.0, 1.0, "flops"), (1.0, f64::NAN, "bandwidth")] {
            assert!(work.seconds(flops, bandwidth).unwrap_err().to_string().contains(key));
        }
    }
}
