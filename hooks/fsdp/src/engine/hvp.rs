//! Exact Hessian-vector products: the graph of the gradient, differentiated once more.

use super::{Batch, Engine};
use crate::error::{At, Error, Result};
use crate::model::{Attention, cross_entropy_sum, scalar};
use crate::precision::cast;
use crate::sharding::{Gathered, GradientShards};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_c10d::autograd::{GradOptions, grad};
use tch::{Kind, TchError, Tensor, with_grad};

impl Engine {
    /// Why there are no exact products on `ranks` ranks, and what to set for them; `None` where there are. `setting`
    /// is what makes attention plain.
    pub(crate) fn refuses_exact_hvp(&self, ranks: usize, setting: &str) -> Option<String> {
        if ranks > 1 {
            return Some(format!(
                "the model is sharded over {ranks} ranks, and backward over backward needs the graph of the whole \
                 model on one. Run on 1 rank, or use differences of gradients"
            ));
        }
        (self.model.config().attention == Attention::Sdpa).then(|| {
            format!(
                "libtorch's fused attention has no second derivative. Set {setting}, or use differences of gradients"
            )
        })
    }

    /// `Hv` of the mean loss over the `targets` counted targets of `batches`, in buffers of its own: one tensor for
    /// each shard of `v`. As [`accumulate_hvp`](Self::accumulate_hvp).
    pub(crate) fn mean_hvp(
        &self,
        group: &ProcessGroup,
        batches: &[Batch],
        targets: f64,
        dropout: bool,
        v: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        let (rank, layouts) = (group.rank(), self.parameters.layouts());
        let mut products = GradientShards::new(layouts, rank, self.policy().parameters, self.model.device())?;
        for batch in batches {
            self.accumulate_hvp(group, batch, 1.0 / targets, dropout, v, &mut products)?;
        }
        products.per_parameter(layouts, rank)
    }

    /// Adds `Hv` to `products`, `H` the Hessian of `scale · (sum of losses of batch)` and `v` one tensor per
    /// parameter, in the order of [`shards`](crate::sharding::ShardedParameters::shards) and of as many elements:
    /// `∇⟨∇L, v⟩` (Pearlmutter, *Fast Exact Multiplication by the Hessian*, 1994; backward over backward here).
    ///
    /// For a group of one rank. The graph spans all blocks, so that all of them are gathered at once, and what
    /// the forward pass and the backward pass keep is in memory together. Random numbers are drawn as by one
    /// forward pass.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch), also where `v` does not fit; [`Autograd`](Error::Autograd), also where an
    /// operation has no second derivative, as [`Attention::Sdpa`].
    pub fn accumulate_hvp(
        &self,
        group: &ProcessGroup,
        batch: &Batch,
        scale: f64,
        dropout: bool,
        v: &[Tensor],
        products: &mut GradientShards,
    ) -> Result<()> {
        let rank = group.rank();
        let blocks: Vec<Gathered> = (0..self.model.blocks().len())
            .map(|block| self.parameters.start_gather(group, [block], &self.policy())?.finish(true))
            .collect::<Result<_>>()?;
        let leaves: Vec<&Tensor> = blocks.iter().flat_map(Gathered::parameters).collect();
        let v = self.shaped_like(&leaves, v).at(rank, || "the vector of an exact product")?;

        let loss = with_grad(|| self.whole_graph_loss(&blocks, batch, dropout))
            .at(rank, || "the forward pass of an exact product")?;
        let seed = scalar(scale, Kind::Double, loss.device()).at(rank, || "the loss")?;
        let failed =
            |source| Error::Autograd { rank, during: "an exact product".into(), source: Box::new(source) };
        let first = GradOptions { create_graph: true, ..GradOptions::default() };
        let gradients = grad(&[&loss], &leaves, &[Some(&seed)], first).map_err(failed)?;
        drop(loss);
        let (outputs, directions): (Vec<&Tensor>, Vec<Option<&Tensor>>) =
            gradients.iter().zip(&v).filter_map(|(gradient, v)| Some((gradient.as_ref()?, Some(v)))).unzip();
        let second = GradOptions { allow_unused: true, ..GradOptions::default() };
        let hvp = grad(&outputs, &leaves, &directions, second).map_err(failed)?;

        let mut hvp = hvp.into_iter().zip(&leaves).map(|(product, leaf)| match product {
            Some(product) => Ok(product),
            None => leaf.f_zeros_like(),
        });
        for (block, layout) in self.parameters.layouts().iter().enumerate() {
            let own: Result<Vec<Tensor>, TchError> = hvp.by_ref().take(layout.parameters.len()).collect();
            let own = own.at(rank, || "an exact product")?;
            products.reduce(group, block, layout, own, self.policy().reduce)?;
        }
        Ok(())
    }

    /// The sum of the losses, as a function of whole parameters that borrowing blocks share.
    fn whole_graph_loss(
        &self,
        blocks: &[Gathered],
        batch: &Batch,
        dropout: bool,
    ) -> Result<Tensor, TchError> {
        let mut hidden = batch.inputs.shallow_clone();
        for (index, own) in blocks.iter().enumerate() {
            let borrowed = self.parameters.borrows(index).and_then(|borrowed| blocks.get(borrowed));
            let parameters: Vec<Tensor> = std::iter::once(own)
                .chain(borrowed)
                .flat_map(Gathered::parameters)
                .map(Tensor::shallow_clone)
                .collect();
            hidden = self.model.run(index, &parameters, &hidden, dropout)?;
        }
        cross_entropy_sum(&hidden, &batch.labels)
    }

    fn shaped_like(&self, leaves: &[&Tensor], v: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        if v.len() != leaves.len() {
            let reason = format!("{} tensors for {} parameters", v.len(), leaves.len());
            return Err(TchError::Shape(reason));
        }
        let kind = self.policy().compute;
        leaves.iter().zip(v).map(|(leaf, v)| cast(v, kind)?.f_reshape(leaf.size())).collect()
    }
}
