//! Sequences of any lengths in micro-batches, a part of them on each rank.

use super::counted;
use crate::data::Sequence;
use crate::engine::Batch;
use crate::error::Result;
use crate::model::IGNORE_INDEX;
use std::cmp::Reverse;
use tch::Device;

/// The part of `rank`: micro-batches of at most `budget` tokens, padding included, or of one sequence.
///
/// Sequences are dealt out by length, so that ranks, which wait for each other at every block, have batches of about
/// the same size, and so that little is padded. What follows a sequence's last counted target changes nothing and is
/// cut off.
pub(super) fn micro_batches(
    sequences: &[Sequence],
    rank: usize,
    world_size: usize,
    budget: usize,
) -> Result<Vec<Batch>> {
    let mut useful: Vec<(usize, &Sequence)> = sequences
        .iter()
        .filter(|sequence| counted(sequence) > 0)
        .map(|sequence| (useful_length(sequence), sequence))
        .collect();
    // Stable: the order of the file decides between equals.
    useful.sort_by_key(|&(length, _)| Reverse(length));
    let mine: Vec<_> = useful.into_iter().skip(rank).step_by(world_size).collect();
    let mut batches = Vec::new();
    let mut rest = &mine[..];
    while let Some(&(longest, _)) = rest.first() {
        let count = (budget / longest).clamp(1, rest.len());
        let (batch, others) = rest.split_at(count);
        let padded: Vec<Sequence> =
            batch.iter().map(|&(length, sequence)| padded(sequence, length, longest)).collect();
        batches.push(Batch::from_sequences(&padded, rank, Device::Cpu)?);
        rest = others;
    }
    Ok(batches)
}

/// Up to and with the last counted target.
fn useful_length(sequence: &Sequence) -> usize {
    sequence.labels.iter().rposition(|&label| label != IGNORE_INDEX).map_or(0, |last| last + 1)
}

/// The first `length` tokens, and on the right as many that count for nothing as make them `longest`.
fn padded(sequence: &Sequence, length: usize, longest: usize) -> Sequence {
    let mut inputs = sequence.inputs[..length].to_vec();
    let mut labels = sequence.labels[..length].to_vec();
    // Token 0 is in every vocabulary.
    inputs.resize(longest, 0);
    labels.resize(longest, IGNORE_INDEX);
    Sequence { inputs, labels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::Tensor;

    fn rows(tensor: &Tensor) -> Vec<Vec<i64>> {
        Vec::<Vec<i64>>::try_from(tensor).unwrap()
    }

    /// What a row of a batch counts: each target with the tokens that it depends on.
    fn targets(inputs: &[i64], labels: &[i64]) -> Vec<(Vec<i64>, i64)> {
        let counted = labels.iter().enumerate().filter(|(_, label)| **label != IGNORE_INDEX);
        counted.map(|(position, &label)| (inputs[..=position].to_vec(), label)).collect()
    }

    fn sequence() -> impl Strategy<Value = Sequence> {
        let label = prop_oneof![Just(IGNORE_INDEX), 0..9_i64];
        prop::collection::vec((0..9_i64, label), 0..8).prop_map(|pairs| {
            let (inputs, labels) = pairs.into_iter().unzip();
            Sequence { inputs, labels }
        })
    }

    proptest! {
        #[test]
        fn every_target_is_counted_once_on_some_rank_after_the_tokens_before_it(
            sequences in prop::collection::vec(sequence(), 0..7),
            world_size in 1..5_usize,
            budget in 1..30_usize,
        ) {
            let mut found = Vec::new();
            for rank in 0..world_size {
                for batch in micro_batches(&sequences, rank, world_size, budget).unwrap() {
                    let (inputs, labels) = (rows(&batch.inputs), rows(&batch.labels));
                    prop_assert!(inputs.len() == 1 || inputs.len() * inputs[0].len() <= budget);
                    for (inputs, labels) in inputs.iter().zip(&labels) {
                        found.extend(targets(inputs, labels));
                    }
                }
            }
            let mut expected: Vec<_> =
                sequences.iter().flat_map(|sequence| targets(&sequence.inputs, &sequence.labels)).collect();
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
