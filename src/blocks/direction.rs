//! Vectors to compare along, written a block at a time.

use crate::config::Distribution;
use crate::sharded::layout::Segment;
use crate::sharded::random::RandomProbe;
use crate::sharded::vector::number;
use tch::{TchError, Tensor};

/// Marks the counters from which signs of blocks are drawn: no probe vector has such an index.
const SIGNS: u64 = 1 << 63;
/// The number of the gradient among the vectors that signs are drawn for.
const GRADIENT: u64 = (1 << 31) - 1;

/// A vector that is compared along.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction<'g> {
    /// The Rademacher vector of that number: the one that a probe of that number starts from.
    Random { seed: u64, index: u64 },
    /// The gradient.
    Gradient { seed: u64, gradient: &'g Tensor },
}

impl Direction<'_> {
    /// Writes `scale` times this rank's entries in `segments`, and leaves the rest of `target` alone.
    pub(super) fn write<'s>(
        self,
        segments: impl IntoIterator<Item = &'s Segment>,
        scale: f64,
        target: &Tensor,
    ) -> Result<(), TchError> {
        match self {
            Self::Random { seed, index } => {
                let probe = RandomProbe::new(seed, index, Distribution::Rademacher);
                probe.write_segments(segments, scale, target)
            }
            Self::Gradient { gradient, .. } => {
                let _no_grad = tch::no_grad_guard();
                let scale = number(scale, target)?;
                for &Segment { start, len, .. } in segments {
                    let piece = gradient.f_narrow(0, start, len)?;
                    let _ = piece.f_mul_out(&target.f_narrow(0, start, len)?, &scale)?;
                }
                Ok(())
            }
        }
    }

    /// The signs s_b of draw number `draw`: a function of (seed, vector, draw, block) alone.
    pub(super) fn signs(self, draw: usize, blocks: usize) -> Vec<f64> {
        let (seed, vector) = match self {
            Self::Random { seed, index } => (seed, index),
            Self::Gradient { seed, .. } => (seed, GRADIENT),
        };
        let mut signs = vec![0.0; blocks];
        RandomProbe::new(seed, SIGNS | vector << 32 | draw as u64, Distribution::Rademacher)
            .fill(0, &mut signs);
        signs
    }
}

/// Zeros in `segments` of a vector.
pub(super) fn clear<'s>(
    segments: impl IntoIterator<Item = &'s Segment>,
    target: &Tensor,
) -> Result<(), TchError> {
    let _no_grad = tch::no_grad_guard();
    for &Segment { start, len, .. } in segments {
        let _ = target.f_narrow(0, start, len)?.f_zero_()?;
    }
    Ok(())
}
