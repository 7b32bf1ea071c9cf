//! The forward pass: the loss, and what the backward pass starts from.

use super::{Batch, Engine, ahead::Ahead, masks::Masks};
use crate::error::{At, Result};
use crate::model::cross_entropy_sum;
use crate::sharding::Gathered;
use hessian_probe_c10d::ProcessGroup;
use tch::{Tensor, no_grad_guard, with_grad};

/// What is kept of a block until its backward pass.
pub(super) enum Kept {
    /// Its input, on which it runs again.
    Input(Tensor),
    /// Its graph.
    Graph(Graph),
}

/// A block that has run.
pub(super) struct Graph {
    pub(super) input: Tensor,
    pub(super) output: Tensor,
    /// Used by the graph.
    pub(super) gathered: Gathered,
}

impl Engine {
    /// The sum of this rank's losses over the counted targets of its `batch`. Collective, since blocks
    /// are gathered; the sum is not reduced.
    ///
    /// # Errors
    /// [`Torch`](crate::Error::Torch) (a token or label outside of the vocabulary, memory),
    /// [`Communication`](crate::Error::Communication).
    pub fn loss_sum(&self, group: &ProcessGroup, batch: &Batch, dropout: bool) -> Result<f64> {
        let _no_grad = no_grad_guard();
        let hidden = self.outputs(group, &batch.inputs, dropout)?;
        cross_entropy_sum(&hidden, &batch.labels)
            .and_then(|loss| loss.f_double_value(&[]))
            .at(group.rank(), || "the loss of a forward pass")
    }

    /// Logits `[B, T, vocab_size]` of this rank's tokens `[B, T]`. Collective.
    ///
    /// # Errors
    /// As [`loss_sum`](Self::loss_sum).
    pub fn logits(&self, group: &ProcessGroup, tokens: &Tensor) -> Result<Tensor> {
        let _no_grad = no_grad_guard();
        self.outputs(group, tokens, false)
    }

    /// What the head makes of these tokens, without a graph.
    fn outputs(&self, group: &ProcessGroup, tokens: &Tensor, dropout: bool) -> Result<Tensor> {
        let mut ahead = Ahead::new(self, group);
        let mut hidden = tokens.shallow_clone();
        for block in 0..=self.head() {
            let then = Some(block + 1).filter(|then| *then <= self.head());
            hidden = self.run_block(&ahead.take(block, then, false)?, block, &hidden, dropout)?;
        }
        Ok(hidden)
    }

    /// Runs all blocks but the head, and returns what is kept of each one, the head's input included.
    pub(super) fn forward(
        &self,
        ahead: &mut Ahead<'_>,
        batch: &Batch,
        dropout: bool,
        masks: &mut Masks,
    ) -> Result<Vec<Kept>> {
        let _no_grad = no_grad_guard();
        let mut kept = Vec::with_capacity(self.model.blocks().len());
        let mut hidden = batch.inputs.shallow_clone();
        for block in 0..self.head() {
            masks.remember()?;
            let recompute = self.passes.recompute;
            let gathered = ahead.take(block, Some(block + 1), !recompute)?;
            if recompute {
                let output = self.run_block(&gathered, block, &hidden, dropout)?;
                kept.push(Kept::Input(std::mem::replace(&mut hidden, output)));
            } else {
                let graph = self.graph(gathered, block, hidden, dropout)?;
                hidden = graph.output.shallow_clone();
                kept.push(Kept::Graph(graph));
            }
        }
        masks.remember()?;
        kept.push(Kept::Input(hidden));
        Ok(kept)
    }

    /// Runs a block on its input, with a graph.
    pub(super) fn graph(
        &self,
        gathered: Gathered,
        block: usize,
        input: Tensor,
        dropout: bool,
    ) -> Result<Graph> {
        let input = self.leaf(input, block)?;
        let output = with_grad(|| self.run_block(&gathered, block, &input, dropout))?;
        Ok(Graph { input, output, gathered })
    }

    /// A block's input as the start of its graph; tokens have no gradient.
    fn leaf(&self, input: Tensor, block: usize) -> Result<Tensor> {
        if block == 0 {
            return Ok(input);
        }
        input
            .f_detach()
            .and_then(|leaf| leaf.f_set_requires_grad(true))
            .at(self.parameters.rank(), || format!("the input of block `{}`", self.block_name(block)))
    }

    fn run_block(&self, gathered: &Gathered, block: usize, input: &Tensor, dropout: bool) -> Result<Tensor> {
        self.model
            .run(block, gathered.parameters(), input, dropout)
            .at(self.parameters.rank(), || format!("running block `{}`", self.block_name(block)))
    }
}
