//! The backward pass: blocks in reverse order, each for its own gradients, and run again where no graph was kept.

use super::forward::{Graph, Kept};
use super::{Batch, Engine, ahead::Ahead, masks::Masks};
use crate::error::{At, Error, Result};
use crate::model::{cross_entropy_sum, scalar};
use crate::sharding::{Gathered, GradientShards};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_c10d::autograd::{GradOptions, grad};
use tch::{Kind, Tensor, with_grad};

/// What stays the same throughout a backward pass.
struct Pass<'a> {
    group: &'a ProcessGroup,
    batch: &'a Batch,
    scale: f64,
    dropout: bool,
}

impl Engine {
    /// The sum of this rank's losses, and `∇ Σ_ranks scale · (sum of losses)` added to `gradients`.
    ///
    /// With `scale` = 1 / (counted targets of all ranks) the gradient is that of the mean loss. Random
    /// numbers are drawn as by a single forward pass: the generator ends where that would leave it.
    /// Collective.
    ///
    /// # Errors
    /// As [`loss_sum`](Self::loss_sum), and [`Autograd`](Error::Autograd).
    pub fn accumulate_gradient(
        &self,
        group: &ProcessGroup,
        batch: &Batch,
        scale: f64,
        dropout: bool,
        gradients: &mut GradientShards,
    ) -> Result<f64> {
        // Graphs that are kept draw once.
        let redraws = self.passes.recompute && self.draws(dropout);
        let mut masks = Masks::new(redraws, group.rank(), self.model.device());
        let mut ahead = Ahead::new(self, group);
        let kept = self.forward(&mut ahead, batch, dropout, &mut masks)?;
        let mut end = masks.split_end();
        let pass = Pass { group, batch, scale, dropout };
        let loss = self.backward(&pass, &mut ahead, kept, &mut masks, gradients);
        // On an error, too, the stream goes on from where the forward pass had left it.
        let rewound = end.rewind();
        let loss = loss?;
        rewound.map(|()| loss)
    }

    /// From the head to the first block; what is `kept` of each is freed on the way.
    fn backward(
        &self,
        pass: &Pass<'_>,
        ahead: &mut Ahead<'_>,
        mut kept: Vec<Kept>,
        masks: &mut Masks,
        gradients: &mut GradientShards,
    ) -> Result<f64> {
        let &Pass { group, batch, scale, dropout } = pass;
        let head = self.head();
        let (mut loss, mut output_gradient) = (0.0, None);
        for block in (0..=head).rev() {
            let Graph { input, output, gathered } = match kept.pop() {
                None => break,
                Some(Kept::Graph(graph)) => graph,
                Some(Kept::Input(input)) => {
                    if block < head {
                        masks.rewind()?;
                    }
                    let then = block.checked_sub(1).filter(|_| self.passes.recompute);
                    self.graph(ahead.take(block, then, true)?, block, input, dropout && block < head)?
                }
            };
            let (output, seed) = match output_gradient.take() {
                Some(seed) => (output, seed),
                None => {
                    let (sum, seed) = self.loss_and_seed(output, batch, scale)?;
                    loss = sum.f_double_value(&[]).at(group.rank(), || "the loss")?;
                    (sum, seed)
                }
            };
            // Freed before the reduce-scatter: the output's graph, and with it all uses of the parameters.
            let mut block_gradients = self.differentiate(block, &output, &seed, &input, &gathered)?;
            drop((output, seed, gathered));
            if block > 0 && !block_gradients.is_empty() {
                output_gradient = Some(block_gradients.remove(0));
            }
            self.reduce(group, block, block_gradients, gradients)?;
        }
        Ok(loss)
    }

    /// The sum of losses of the head's output, and the gradient with which it starts. Takes the logits,
    /// since their graph would keep the gathered parameters alive.
    fn loss_and_seed(&self, logits: Tensor, batch: &Batch, scale: f64) -> Result<(Tensor, Tensor)> {
        let compute = || {
            let sum = with_grad(|| cross_entropy_sum(&logits, &batch.labels))?;
            Ok((sum, scalar(scale, Kind::Double, logits.device())?))
        };
        compute().at(self.parameters.rank(), || "the loss")
    }

    /// Gradients of `output · seed` with respect to the input (but for the first block) and to the
    /// gathered parameters, in this order.
    fn differentiate(
        &self,
        block: usize,
        output: &Tensor,
        seed: &Tensor,
        input: &Tensor,
        gathered: &Gathered,
    ) -> Result<Vec<Tensor>> {
        let input = (block > 0).then_some(input);
        let leaves: Vec<&Tensor> = input.into_iter().chain(gathered.parameters()).collect();
        let gradients =
            grad(&[output], &leaves, &[Some(seed)], GradOptions::default()).map_err(|source| {
                Error::Autograd {
                    rank: self.parameters.rank(),
                    during: format!("the gradient of block `{}`", self.block_name(block)),
                    source: Box::new(source),
                }
            })?;
        // Unused inputs are an error of `grad`, so that none is missing.
        Ok(gradients.into_iter().flatten().collect())
    }

    /// Reduce-scatters the gradients of a block and of the one that it borrows from.
    fn reduce(
        &self,
        group: &ProcessGroup,
        block: usize,
        mut own: Vec<Tensor>,
        gradients: &mut GradientShards,
    ) -> Result<()> {
        let layouts = self.parameters.layouts();
        let Some(layout) = layouts.get(block) else { return Ok(()) };
        let borrowed = own.split_off(layout.parameters.len().min(own.len()));
        let kind = self.policy().reduce;
        gradients.reduce(group, block, layout, own, kind)?;
        if let Some((index, layout)) =
            self.parameters.borrows(block).and_then(|index| Some((index, layouts.get(index)?)))
        {
            gradients.reduce(group, index, layout, borrowed, kind)?;
        }
        Ok(())
    }
}
