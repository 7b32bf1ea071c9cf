//! Sequences as windows of one long text.

use super::{Sequence, SequenceId};
use crate::error::{Error, Result};
use crate::model::hash;

/// `text` in a part to train on and the last part (`validation`, a fraction).
pub(super) fn split<T>(mut text: Vec<T>, validation: f64) -> Result<(Vec<T>, Vec<T>)> {
    if !(validation > 0.0 && validation < 1.0) {
        return Err(Error::config("data.validation", format!("is {validation}, must be between 0 and 1")));
    }
    let split = (text.len() as f64 * (1.0 - validation)) as usize;
    let validation = text.split_off(split.min(text.len()));
    Ok((text, validation))
}

/// The window at a random offset, drawn by a hash of `id`.
pub(super) fn random_window<T: Copy + Into<i64>>(
    text: &[T],
    id: SequenceId,
    length: usize,
) -> Result<Sequence> {
    let key = [id.step, id.micro_step, id.index].into_iter().fold(hash(id.seed, 1), hash);
    let offsets = windows(text, length, "training")?;
    Ok(sequence(text, (key % offsets) as usize, length))
}

/// Window number `index` of those one behind the other, from the start again after the last.
pub(super) fn window_in_turn<T: Copy + Into<i64>>(text: &[T], index: u64, length: usize) -> Result<Sequence> {
    let offsets = windows(text, length, "validation")?;
    let whole = offsets.div_ceil(length as u64);
    Ok(sequence(text, (index % whole) as usize * length, length))
}

/// How many windows of `length` tokens with a target after each there are.
fn windows<T>(text: &[T], length: usize, part: &str) -> Result<u64> {
    match text.len().checked_sub(length) {
        Some(offsets) if offsets > 0 && length > 0 => Ok(offsets as u64),
        _ => Err(Error::Data(format!(
            "the {part} part has {} tokens, too few for a sequence of {length} and its last target",
            text.len()
        ))),
    }
}

fn sequence<T: Copy + Into<i64>>(text: &[T], offset: usize, length: usize) -> Sequence {
    let tokens = |start: usize| text[start..start + length].iter().map(|&token| token.into()).collect();
    Sequence { inputs: tokens(offset), labels: tokens(offset + 1) }
}
