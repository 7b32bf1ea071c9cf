//! The forward pass: the loss, and each block's input.

use super::{Batch, Engine, masks::Masks};
use crate::error::{At, Result};
use crate::model::cross_entropy_sum;
use hessian_probe_c10d::ProcessGroup;
use tch::{Tensor, no_grad_guard};

impl Engine {
    /// The sum of this rank's losses over the counted targets of its `batch`. Collective, since blocks
    /// are gathered; the sum is not reduced.
    ///
    /// # Errors
    /// [`Torch`](crate::Error::Torch) (a token or label outside of the vocabulary, memory),
    /// [`Communication`](crate::Error::Communication).
    pub fn loss_sum(&self, group: &ProcessGroup, batch: &Batch, dropout: bool) -> Result<f64> {
        let _no_grad = no_grad_guard();
        let rank = group.rank();
        let mut hidden = batch.inputs.shallow_clone();
        for block in 0..self.model.blocks().len() {
            hidden = self.run_block(group, block, &hidden, dropout)?;
        }
        cross_entropy_sum(&hidden, &batch.labels)
            .and_then(|loss| loss.f_double_value(&[]))
            .at(rank, || "the loss of a forward pass")
    }

    /// Logits `[B, T, vocab_size]` of this rank's tokens `[B, T]`. Collective.
    ///
    /// # Errors
    /// As [`loss_sum`](Self::loss_sum).
    pub fn logits(&self, group: &ProcessGroup, tokens: &Tensor) -> Result<Tensor> {
        let _no_grad = no_grad_guard();
        let mut hidden = tokens.shallow_clone();
        for block in 0..self.model.blocks().len() {
            hidden = self.run_block(group, block, &hidden, false)?;
        }
        Ok(hidden)
    }

    /// Runs all blocks but the head without a graph and returns each one's input, the head's included.
    pub(super) fn block_inputs(
        &self,
        group: &ProcessGroup,
        batch: &Batch,
        dropout: bool,
        masks: &mut Masks,
    ) -> Result<Vec<Tensor>> {
        let _no_grad = no_grad_guard();
        let mut inputs = Vec::with_capacity(self.model.blocks().len());
        let mut hidden = batch.inputs.shallow_clone();
        for block in 0..self.head() {
            masks.remember()?;
            let output = self.run_block(group, block, &hidden, dropout)?;
            inputs.push(std::mem::replace(&mut hidden, output));
        }
        masks.remember()?;
        inputs.push(hidden);
        Ok(inputs)
    }

    /// Gathers a block, runs it without a graph and frees it.
    fn run_block(&self, group: &ProcessGroup, block: usize, input: &Tensor, dropout: bool) -> Result<Tensor> {
        let gathered = self.gather(group, block, false)?;
        self.model
            .run(block, gathered.parameters(), input, dropout)
            .at(group.rank(), || format!("the forward pass of block `{}`", self.block_name(block)))
    }
}
