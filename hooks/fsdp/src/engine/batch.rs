//! What one pass runs on.

use crate::data::Sequence;
use crate::error::{At, Error, Result};
use crate::model::{IGNORE_INDEX, scalar};
use tch::{Device, Kind, Tensor};

/// Sequences of this rank with their targets.
///
/// ```
/// use hessian_probe_fsdp::{Batch, Sequence};
/// use hessian_probe_fsdp::model::IGNORE_INDEX;
///
/// let sequence = Sequence { inputs: vec![5, 6, 7], labels: vec![IGNORE_INDEX, 7, 8] };
/// let batch = Batch::from_sequences(&[sequence], 0, tch::Device::Cpu)?;
/// assert_eq!((batch.inputs.size(), batch.counted_targets(0)?), (vec![1, 3], 2));
/// # Ok::<(), hessian_probe_fsdp::Error>(())
/// ```
#[derive(Debug)]
pub struct Batch {
    /// Tokens, i64 `[B, T]`.
    pub inputs: Tensor,
    /// Targets, i64 `[B, T]`: `labels[b, t]` is what should follow `inputs[b, ..=t]`, or
    /// [`IGNORE_INDEX`] where nothing is counted.
    pub labels: Tensor,
}

impl Batch {
    /// The batch of `sequences`, which must be of equal length.
    ///
    /// # Errors
    /// [`Batch`](Error::Batch) when lengths differ or there is no sequence.
    pub fn from_sequences(sequences: &[Sequence], rank: usize, device: Device) -> Result<Self> {
        let length = sequences.first().map_or(0, |sequence| sequence.inputs.len());
        if length == 0 {
            return Err(Error::Batch { rank, reason: "there is no sequence in it".into() });
        }
        if sequences.iter().any(|sequence| sequence.inputs.len() != length || sequence.labels.len() != length)
        {
            return Err(Error::Batch { rank, reason: "its sequences differ in length".into() });
        }
        let tensor = |part: fn(&Sequence) -> &Vec<i64>| {
            let values: Vec<i64> =
                sequences.iter().flat_map(|sequence| part(sequence).iter().copied()).collect();
            Tensor::f_from_slice(&values)
                .and_then(|flat| flat.f_view([sequences.len() as i64, length as i64])?.f_to(device))
                .at(rank, || "a batch")
        };
        Ok(Self {
            inputs: tensor(|sequence| &sequence.inputs)?,
            labels: tensor(|sequence| &sequence.labels)?,
        })
    }

    /// The batch of Hugging Face's convention, where `labels[b, t]` is the token *at* `t` (or −100) and
    /// the model shifts: labels move one to the left, and the last position is not counted.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch) when the shapes are not equal and of two dimensions.
    pub fn from_unshifted(input_ids: &Tensor, labels: &Tensor, rank: usize) -> Result<Self> {
        let shifted = || {
            let (batch, time) = labels.size2()?;
            let ignored = Tensor::f_ones([batch, 1], (Kind::Int64, labels.device()))?.f_mul(&scalar(
                IGNORE_INDEX as f64,
                Kind::Int64,
                labels.device(),
            )?)?;
            Tensor::f_cat(&[labels.f_narrow(1, 1, time - 1)?, ignored], 1)
        };
        Ok(Self { inputs: input_ids.shallow_clone(), labels: shifted().at(rank, || "shifting labels")? })
    }

    /// A batch of one token that counts for nothing: what a rank runs while others have work left.
    pub(crate) fn idle(rank: usize, device: Device) -> Result<Self> {
        Self::from_sequences(&[Sequence { inputs: vec![0], labels: vec![IGNORE_INDEX] }], rank, device)
    }

    /// The number of targets that are counted.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch), libtorch's.
    pub fn counted_targets(&self, rank: usize) -> Result<u64> {
        let count = || {
            let ignored = scalar(IGNORE_INDEX as f64, Kind::Int64, self.labels.device())?;
            self.labels.f_ne_tensor(&ignored)?.f_sum(Kind::Int64)?.f_int64_value(&[])
        };
        Ok(count().at(rank, || "counting targets")?.unsigned_abs())
    }
}
