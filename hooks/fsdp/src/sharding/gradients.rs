//! This rank's slices of the gradient.

use super::layout::BlockLayout;
use crate::error::{At, Error, Result};
use crate::precision::cast;
use hessian_probe_c10d::{ProcessGroup, ReduceOp};
use tch::{Device, Kind, Tensor, no_grad_guard};

/// Gradient slices, laid out like the parameters; padding is zero.
#[derive(Debug)]
pub struct GradientShards {
    shards: Vec<Tensor>,
    /// Whether a block's slice holds something; it is overwritten, not added to, where not.
    written: Vec<bool>,
}

impl GradientShards {
    /// Slices for `layouts`, of `kind` on `device`, that hold nothing yet.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch) when memory is short.
    pub fn new(layouts: &[BlockLayout], rank: usize, kind: Kind, device: Device) -> Result<Self> {
        let shards = layouts
            .iter()
            .map(|layout| {
                Tensor::f_zeros([layout.shard_len as i64], (kind, device))
                    .at(rank, || format!("the gradient buffer of block `{}`", layout.name))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { written: vec![false; shards.len()], shards })
    }

    /// Forgets what the slices hold: the next [`reduce`](Self::reduce) of each block overwrites it.
    pub fn clear(&mut self) {
        self.written.fill(false);
    }

    /// This rank's flat slice of each block, padding included.
    pub(crate) fn flat_shards(&self) -> &[Tensor] {
        &self.shards
    }

    /// Adds the sum over ranks of `gradients` (one tensor per parameter of block number `block`), each cast to
    /// `kind` and added up in it, to this rank's slice. Collective: one reduce-scatter.
    ///
    /// # Errors
    /// [`Communication`](Error::Communication), [`Torch`](Error::Torch).
    pub fn reduce(
        &mut self,
        group: &ProcessGroup,
        block: usize,
        layout: &BlockLayout,
        gradients: Vec<Tensor>,
        kind: Kind,
    ) -> Result<()> {
        let rank = group.rank();
        let describe = || format!("reducing the gradient of block `{}`", layout.name);
        let (Some(shard), Some(written)) = (self.shards.get_mut(block), self.written.get_mut(block)) else {
            return Ok(());
        };
        let _no_grad = no_grad_guard();

        if group.world_size() == 1 {
            // The shard is the whole block: no flat copy in between.
            for (slice, gradient) in layout.split_whole(shard).at(rank, describe)?.iter_mut().zip(gradients) {
                let gradient = cast(&gradient, kind).at(rank, describe)?;
                if *written { slice.f_add_(&gradient).map(drop) } else { slice.f_copy_(&gradient) }
                    .at(rank, describe)?;
            }
            *written = true;
            return Ok(());
        }

        let options = (kind, shard.device());
        let flat = Tensor::f_zeros([layout.padded() as i64], options).at(rank, describe)?;
        for (mut slice, gradient) in layout.split_whole(&flat).at(rank, describe)?.into_iter().zip(gradients)
        {
            slice.f_copy_(&gradient).at(rank, describe)?;
        }
        let communication =
            |source| Error::Communication { rank, during: describe(), source: Box::new(source) };
        if !*written && shard.f_kind().at(rank, describe)? == kind {
            group.reduce_scatter_into(shard, &flat, ReduceOp::Sum).map_err(communication)?;
        } else {
            let sum = Tensor::f_empty([layout.shard_len as i64], options).at(rank, describe)?;
            group.reduce_scatter_into(&sum, &flat, ReduceOp::Sum).map_err(communication)?;
            if *written { shard.f_add_(&sum).map(drop) } else { shard.f_copy_(&sum) }.at(rank, describe)?;
        }
        *written = true;
        Ok(())
    }

    /// One tensor per parameter, aliases of the slices, aligned with
    /// [`ShardedParameters::shards`](super::ShardedParameters::shards).
    ///
    /// # Errors
    /// [`Torch`](Error::Torch), when libtorch cannot allocate a view.
    pub fn per_parameter(&self, layouts: &[BlockLayout], rank: usize) -> Result<Vec<Tensor>> {
        split_shards(layouts, &self.shards, rank)
    }
}

/// Flat slices of all blocks as one tensor per parameter.
pub(crate) fn split_shards(layouts: &[BlockLayout], shards: &[Tensor], rank: usize) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::new();
    for (layout, shard) in layouts.iter().zip(shards) {
        tensors.extend(layout.split_shard(rank, shard).at(rank, || "a view of the shards")?);
    }
    Ok(tensors)
}
