//! The probe batch: what the Hessian is the Hessian of.

use super::Trainer;
use super::step::reduce;
use crate::engine::Batch;
use crate::error::{At, Error, Result};
use crate::sharding::GradientShards;
use hessian_probe::ReduceOp;
use tch::{Kind, Tensor};

/// This rank's part of the probe batch. Ranks may have different numbers of sequences, or none.
///
/// ```
/// use hessian_probe::Host;
/// use hessian_probe_c10d::ProcessGroup;
/// use hessian_probe_fsdp::{Corpus, LlamaConfig, ProbeBatch, Trainer, TrainerConfig};
/// use tch::Tensor;
///
/// # let corpus = Corpus::from_bytes("Fuzzy Wuzzy was a bear. ".repeat(50).into_bytes(), 0.2)?;
/// # let mut config = TrainerConfig::new(LlamaConfig::new(256, 16, 40, 1, 2), 4, 16);
/// # config.threads = Some(1);
/// let mut trainer = Trainer::new(config, ProcessGroup::single(), corpus)?;
/// let [inputs, labels] = [b"bear", b"ear."].map(|text| Tensor::from_slice(&text.map(i64::from)).view([1, 4]));
/// trainer.set_probe_batch(ProbeBatch { inputs, labels, dropout: false })?;
/// assert_eq!(trainer.probe_tokens(), Some(4));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Debug)]
pub struct ProbeBatch {
    /// Tokens, i64 `[B, T]`, `B ≥ 0`.
    pub inputs: Tensor,
    /// Targets, i64 `[B, T]`: `labels[b, t]` is the target *at* position `t` (not shifted by the model;
    /// see [`Batch::from_unshifted`]), or −100 where nothing is counted.
    pub labels: Tensor,
    /// Whether dropout is on. The masks are those that the generator's present state gives: repeatable
    /// where the caller restores the state, as a probe does.
    pub dropout: bool,
}

/// A probe batch in pieces of the size of a micro-batch of training, the same number on every rank.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) batches: Vec<Batch>,
    pub(super) targets: f64,
    pub(super) dropout: bool,
    /// Gradient buffers for a probe that comes while training's own hold a gradient.
    spare: Option<GradientShards>,
}

impl Probe {
    pub(super) fn targets(&self) -> u64 {
        self.targets as u64
    }

    pub(super) fn free_spare(&mut self) {
        self.spare = None;
    }
}

impl Trainer {
    /// Sets what [`Host::gradient`](hessian_probe::Host::gradient) and
    /// [`Host::loss`](hessian_probe::Host::loss) are computed on: the mean loss over all counted targets
    /// of all ranks' parts. It is worked through in pieces of training's micro-batch size, so that a large
    /// probe batch takes no more memory than training. Collective.
    ///
    /// # Errors
    /// [`Batch`](Error::Batch) where shapes, kinds or values do not fit (and
    /// [`PeerBatch`](Error::PeerBatch) on the other ranks), or where nothing is counted on any rank.
    pub fn set_probe_batch(&mut self, batch: ProbeBatch) -> Result<()> {
        let rank = self.group.rank();
        let mine = self.check(&batch).and_then(|()| self.pieces(&batch));
        let (pieces, targets) = mine.as_ref().map_or((0, 0), |(batches, targets)| (batches.len(), *targets));

        let mut sums = [targets as f64, f64::from(u8::from(mine.is_err()))];
        reduce(&self.group, &mut sums, ReduceOp::Sum, "agreeing on the probe batch")?;
        let mut most = [pieces as f64];
        reduce(&self.group, &mut most, ReduceOp::Max, "agreeing on the probe batch")?;

        let (mut batches, _) = mine?;
        if sums[1] > 0.0 {
            return Err(Error::PeerBatch { rank, failed: sums[1] as usize });
        }
        if sums[0] == 0.0 {
            return Err(Error::Batch { rank, reason: "no target of any rank is counted".into() });
        }
        while batches.len() < most[0] as usize {
            batches.push(Batch::idle(rank, self.engine.model().device())?);
        }
        self.probe = Some(Probe { batches, targets: sums[0], dropout: batch.dropout, spare: None });
        Ok(())
    }

    /// Sets the probe batch to the first `sequences` validation sequences of the data, divided among the
    /// ranks, without dropout: the same batch on any number of ranks. Collective.
    ///
    /// # Errors
    /// [`Data`](Error::Data), and as [`set_probe_batch`](Self::set_probe_batch).
    pub fn probe_on_validation(&mut self, sequences: usize) -> Result<()> {
        let (rank, world_size) = (self.group.rank(), self.group.world_size());
        let length = self.config.sequence_length;
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        let own = rank * sequences / world_size..(rank + 1) * sequences / world_size;
        let count = own.len() as i64;
        for index in own {
            let sequence = self.source.validation(index as u64, length)?;
            inputs.extend(sequence.inputs);
            labels.extend(sequence.labels);
        }
        let tensor = |values: &[i64]| {
            Tensor::f_from_slice(values)
                .and_then(|flat| flat.f_view([count, length as i64]))
                .at(rank, || "the probe batch")
        };
        let (inputs, labels) = (tensor(&inputs)?, tensor(&labels)?);
        self.set_probe_batch(ProbeBatch { inputs, labels, dropout: false })
    }

    /// The mean loss of the probe batch. Collective.
    pub(super) fn probe_loss(&mut self) -> Result<f64> {
        let rank = self.group.rank();
        let Some(probe) = &self.probe else { return Err(Error::NoProbeBatch { rank }) };
        let mut sum = [0.0];
        for batch in &probe.batches {
            sum[0] += self.engine.loss_sum(&self.group, batch, probe.dropout)?;
        }
        reduce(&self.group, &mut sum, ReduceOp::Sum, "reducing the probe loss")?;
        Ok(sum[0] / probe.targets)
    }

    /// The mean loss of the probe batch and this rank's slices of its gradient, in training's own buffers
    /// unless these hold a gradient that the optimizer still needs. Collective.
    pub(super) fn probe_gradient(&mut self) -> Result<(f64, Vec<Tensor>)> {
        let rank = self.group.rank();
        let Some(probe) = &mut self.probe else { return Err(Error::NoProbeBatch { rank }) };
        let layouts = self.engine.parameters().layouts();
        // Training's buffers are of its own kind, which may be too narrow for a probe in full precision.
        let kind = self.engine.policy().parameters;
        let gradients = if self.pending.is_none() && kind == self.engine.model().kind() {
            &mut self.gradients
        } else {
            match &mut probe.spare {
                Some(spare) => spare,
                none => none.insert(GradientShards::new(layouts, rank, kind, self.engine.model().device())?),
            }
        };
        gradients.clear();
        let (mut sum, scale) = ([0.0], 1.0 / probe.targets);
        for batch in &probe.batches {
            sum[0] += self.engine.accumulate_gradient(&self.group, batch, scale, probe.dropout, gradients)?;
        }
        reduce(&self.group, &mut sum, ReduceOp::Sum, "reducing the probe loss")?;
        Ok((sum[0] / probe.targets, gradients.per_parameter(layouts, rank)?))
    }

    /// Whether a probe batch can be run: an error here is one before any collective.
    fn check(&self, batch: &ProbeBatch) -> Result<()> {
        let rank = self.group.rank();
        let refuse = |reason: String| Err(Error::Batch { rank, reason });
        let (inputs, labels) = (batch.inputs.size(), batch.labels.size());
        if inputs.len() != 2 || inputs != labels {
            return refuse(format!(
                "inputs and labels must both be [B, T]; they are {inputs:?} and {labels:?}"
            ));
        }
        for (name, tensor) in [("inputs", &batch.inputs), ("labels", &batch.labels)] {
            let kind = tensor.f_kind().at(rank, || "the probe batch")?;
            if kind != Kind::Int64 {
                return refuse(format!("{name} must be of kind Int64, not {kind:?}"));
            }
        }
        if inputs[0] == 0 {
            return Ok(());
        }
        let longest = self.config.model.max_position_embeddings as i64;
        if inputs[1] == 0 || inputs[1] > longest {
            return refuse(format!(
                "sequences have {} tokens; 1 to model.max_position_embeddings = {longest} are possible",
                inputs[1]
            ));
        }
        for (name, tensor, ignored) in [("inputs", &batch.inputs, false), ("labels", &batch.labels, true)] {
            let values = token_values(tensor).at(rank, || "the probe batch")?;
            let vocab = self.config.model.vocab_size as i64;
            let fits = |&value: &i64| {
                (0..vocab).contains(&value) || (ignored && value == crate::model::IGNORE_INDEX)
            };
            if let Some(value) = values.iter().find(|value| !fits(value)) {
                return refuse(format!("{name} contain {value}; model.vocab_size is {vocab}"));
            }
        }
        Ok(())
    }

    /// The batch in pieces of at most training's micro-batch size, and its counted targets.
    fn pieces(&self, batch: &ProbeBatch) -> Result<(Vec<Batch>, u64)> {
        let (rank, device) = (self.group.rank(), self.engine.model().device());
        let total = batch.inputs.size().first().copied().unwrap_or(0);
        let size = self.local_batch_size() as i64;
        let (mut pieces, mut targets, mut start) = (Vec::new(), 0, 0);
        while start < total {
            let count = size.min(total - start);
            // Copies: the caller may change its tensors.
            let part = |tensor: &Tensor| {
                tensor.f_narrow(0, start, count)?.f_to_dtype(Kind::Int64, false, true)?.f_to(device)
            };
            let during = || "the probe batch";
            let piece = Batch {
                inputs: part(&batch.inputs).at(rank, during)?,
                labels: part(&batch.labels).at(rank, during)?,
            };
            targets += piece.counted_targets(rank)?;
            pieces.push(piece);
            start += count;
        }
        Ok((pieces, targets))
    }
}

fn token_values(tensor: &Tensor) -> Result<Vec<i64>, tch::TchError> {
    let flat = tensor.f_to(tch::Device::Cpu)?.f_reshape([-1])?;
    let mut values = vec![0; flat.numel()];
    let count = values.len();
    flat.f_copy_data(&mut values, count)?;
    Ok(values)
}
