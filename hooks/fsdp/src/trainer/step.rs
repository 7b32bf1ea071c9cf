//! One optimizer step: micro-batches forward and backward, then AdamW.

use super::Trainer;
use crate::data::SequenceId;
use crate::engine::Batch;
use crate::error::{At, Error, Result};
use crate::optimizer::{clip_coefficient, squared_norm};
use hessian_probe::ReduceOp;
use hessian_probe_c10d::ProcessGroup;

/// What one step did; equal on all ranks.
///
/// ```
/// use hessian_probe_c10d::ProcessGroup;
/// use hessian_probe_fsdp::{Corpus, LlamaConfig, StepReport, Trainer, TrainerConfig};
///
/// # let corpus = Corpus::from_bytes("Fuzzy Wuzzy was a bear. ".repeat(50).into_bytes(), 0.2)?;
/// # let mut config = TrainerConfig::new(LlamaConfig::new(256, 16, 40, 1, 2), 4, 16);
/// # config.threads = Some(1);
/// let mut trainer = Trainer::new(config, ProcessGroup::single(), corpus)?;
/// let StepReport { step, loss, tokens, .. } = trainer.step()?;
/// assert_eq!((step, tokens), (0, 4 * 16));
/// assert!((loss - 256_f64.ln()).abs() < 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepReport {
    /// The number of the step, counted from 0.
    pub step: u64,
    /// The mean loss over all counted targets of all ranks and micro-batches, in nats, before the step.
    pub loss: f64,
    /// The norm of the gradient of that mean before clipping.
    pub grad_norm: f64,
    /// The learning rate used.
    pub lr: f64,
    /// The tokens of all ranks up to and with this step.
    pub tokens: u64,
}

/// A gradient that waits for the optimizer.
#[derive(Debug)]
pub(super) struct Pending {
    /// The sum of this rank's losses.
    loss_sum: f64,
    /// The counted targets of all ranks.
    targets: f64,
}

impl Trainer {
    /// One optimizer step, with no callback. Collective.
    ///
    /// # Errors
    /// [`NonFinite`](Error::NonFinite) before anything is changed; [`Data`](Error::Data),
    /// [`Communication`](Error::Communication), [`Torch`](Error::Torch).
    pub fn step(&mut self) -> Result<StepReport> {
        self.backward()?;
        self.optimizer_step()
    }

    /// Fills the gradient buffers with the gradient of this step's mean loss.
    pub(super) fn backward(&mut self) -> Result<()> {
        self.pending = None;
        self.train_in_own_precision()?;
        self.gradients.clear();
        let batches = self.step_batches()?;
        let targets = count_targets(&self.group, &batches)?;
        let mut loss_sum = 0.0;
        for batch in &batches {
            loss_sum += self.engine.accumulate_gradient(
                &self.group,
                batch,
                1.0 / targets,
                true,
                &mut self.gradients,
            )?;
        }
        self.pending = Some(Pending { loss_sum, targets });
        Ok(())
    }

    /// Lets the optimizer use the gradient that [`backward`](Self::backward) left.
    pub(super) fn optimizer_step(&mut self) -> Result<StepReport> {
        let (rank, step) = (self.group.rank(), self.step);
        let Some(Pending { loss_sum, targets }) = self.pending.take() else {
            return Err(Error::Batch { rank, reason: "an optimizer step without a backward pass".into() });
        };
        if let Some(probe) = &mut self.probe {
            probe.free_spare();
        }
        let squares = squared_norm(self.gradients.flat_shards()).at(rank, || "the gradient's norm")?;
        let mut sums = [loss_sum, squares];
        reduce(&self.group, &mut sums, ReduceOp::Sum, "reducing the loss and the gradient's norm")?;
        let (loss, grad_norm) = (sums[0] / targets, sums[1].sqrt());
        if !loss.is_finite() {
            return Err(Error::NonFinite { rank, step, what: "the loss" });
        }
        if !grad_norm.is_finite() {
            return Err(Error::NonFinite { rank, step, what: "the gradient" });
        }

        let lr = self.coming_learning_rate();
        let clip = clip_coefficient(grad_norm, self.config.optimizer.clip_norm);
        self.optimizer.step(self.engine.parameters(), self.gradients.flat_shards(), lr, clip)?;
        let config = &self.config;
        self.tokens += (config.batch_size * config.sequence_length * config.gradient_accumulation) as u64;
        self.step += 1;
        self.loss = Some(loss);
        Ok(StepReport { step, loss, grad_norm, lr, tokens: self.tokens })
    }

    /// This rank's micro-batches of the present step.
    fn step_batches(&self) -> Result<Vec<Batch>> {
        let (rank, local) = (self.group.rank(), self.local_batch_size());
        (0..self.config.gradient_accumulation as u64)
            .map(|micro_step| {
                let sequences = (rank * local..(rank + 1) * local)
                    .map(|index| {
                        let id = SequenceId {
                            seed: self.config.seed,
                            step: self.step,
                            micro_step,
                            index: index as u64,
                        };
                        self.source.training(id, self.config.sequence_length)
                    })
                    .collect::<Result<Vec<_>>>()?;
                Batch::from_sequences(&sequences, rank, self.engine.model().device())
            })
            .collect()
    }

    /// Sequences of one rank in a micro-batch.
    pub(super) fn local_batch_size(&self) -> usize {
        self.config.batch_size / self.group.world_size()
    }
}

/// The counted targets of all ranks. A batch without any would make the mean 0/0: an error on all ranks.
fn count_targets(group: &ProcessGroup, batches: &[Batch]) -> Result<f64> {
    let rank = group.rank();
    let mut count = [0.0];
    for batch in batches {
        count[0] += batch.counted_targets(rank)? as f64;
    }
    reduce(group, &mut count, ReduceOp::Sum, "counting targets")?;
    if count[0] == 0.0 {
        return Err(Error::Batch { rank, reason: "no target of any rank is counted".into() });
    }
    Ok(count[0])
}

pub(crate) fn reduce(group: &ProcessGroup, values: &mut [f64], op: ReduceOp, during: &str) -> Result<()> {
    hessian_probe::ProcessGroup::all_reduce(group, values, op).map_err(|source| Error::Communication {
        rank: group.rank(),
        during: during.into(),
        source,
    })
}
