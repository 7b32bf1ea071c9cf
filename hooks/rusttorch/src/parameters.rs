//! Where each parameter's elements are: `rusttorch` pads a parameter to a multiple of the number of ranks and gives every
//! rank one flat chunk of it.

use crate::error::{Error, Result};
use crate::group::SharedGroup;
use hessian_probe::{ProcessGroup as _, Shard};
use hessian_probe_var_store::During;
use rusttorch::distributed::{ReduceOp, ShardedTrainer};
use std::collections::BTreeMap;
use tch::Tensor;

/// One parameter, on this rank.
#[derive(Debug)]
struct Parameter {
    /// This rank's part without padding: an alias of the trainer's own.
    shard: Shard,
    /// The trainer's chunk, padding included.
    chunk: Tensor,
    shape: Vec<i64>,
}

/// All parameters in the trainer's order, that of their names.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<Parameter>);

impl Parameters {
    /// Gathers the model once: a trainer tells its shapes in no other way.
    pub(crate) fn of(trainer: &mut ShardedTrainer, group: &SharedGroup) -> Result<Self> {
        const LAYOUT: &str = "taking the trainer's shards";
        let full = group.call("gathering the parameters", |group| trainer.full_parameters(group))?;
        let chunks = trainer.optimizer_mut().named_parameters();
        let mut own = chunks.iter().map(|(name, _)| name);
        if let Some(name) = full.keys().find(|name| own.next() != Some(*name)) {
            return Err(Error::Replaced { parameter: name.clone() });
        }
        let shapes: Vec<_> = full.values().map(Tensor::size).collect();
        // With their offsets and blocks; each is replaced by this rank's part below.
        let whole = Shard::whole(full, false);
        let parameters = whole.into_iter().zip(chunks).zip(shapes).map(|((shard, (_, chunk)), shape)| {
            let chunk = chunk.f_detach()?;
            let (count, width) = (shard.tensor.numel(), chunk.numel());
            let start = (group.rank() * width).min(count);
            let tensor = chunk.f_narrow(0, 0, width.min(count - start) as i64)?;
            let shard = Shard { tensor, global_offset: shard.global_offset + start as u64, ..shard };
            Ok(Parameter { shard, chunk, shape })
        });
        Ok(Self(parameters.collect::<Result<_, tch::TchError>>().during(LAYOUT)?))
    }

    /// Whether the trainer still has the chunks that the shards alias, and the model its shapes. Both come by name, as here.
    pub(crate) fn check(&self, trainer: &mut ShardedTrainer, full: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut found = trainer.optimizer_mut().named_parameters().into_iter().zip(full);
        for Parameter { shard, chunk, shape } in &self.0 {
            let same = found.next().is_some_and(|((name, own), (of, full))| {
                name == shard.name
                    && *of == shard.name
                    && own.data_ptr() == chunk.data_ptr()
                    && full.size() == *shape
            });
            if !same {
                return Err(Error::Replaced { parameter: shard.name.clone() });
            }
        }
        match found.next() {
            Some(((parameter, _), _)) => Err(Error::Replaced { parameter }),
            None => Ok(()),
        }
    }

    pub(crate) fn shards(&self) -> Vec<Shard> {
        let shards = self.0.iter().map(|Parameter { shard, .. }| Shard {
            name: shard.name.clone(),
            block: shard.block.clone(),
            tensor: shard.tensor.shallow_clone(),
            ..*shard
        });
        shards.collect()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|parameter| parameter.shard.name.as_str())
    }

    /// The mean over ranks of tensors shaped like the parameters, each on the rank that owns it: the trainer's own
    /// reduction, with its bits.
    pub(crate) fn reduce_scatter(&self, full: Vec<Tensor>, group: &SharedGroup) -> Result<Vec<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        let pairs = self.0.iter().zip(full);
        pairs
            .map(|(parameter, full)| {
                let chunks =
                    parameter.chunks(&full, group.world_size()).during("cutting the gradient into shards")?;
                // Freed before the next.
                drop(full);
                let own = group.call("reduce_scatter of the gradient", |group| {
                    group.reduce_scatter(&chunks, ReduceOp::Mean)
                })?;
                Ok(own
                    .f_narrow(0, 0, parameter.shard.tensor.numel() as i64)
                    .during("cutting padding off the gradient")?)
            })
            .collect()
    }

    /// The whole of vectors that are sharded like the parameters. `None` where they are not.
    pub(crate) fn gather(&self, sharded: &[Tensor], group: &SharedGroup) -> Result<Option<Vec<Tensor>>> {
        const CUTTING: &str = "padding a vector";
        let _no_grad = tch::no_grad_guard();
        let fits = |(parameter, v): (&Parameter, &Tensor)| parameter.shard.tensor.numel() == v.numel();
        if sharded.len() != self.0.len() || !self.0.iter().zip(sharded).all(fits) {
            return Ok(None);
        }
        let pairs = self.0.iter().zip(sharded);
        let whole = pairs.map(|(parameter, v)| {
            let mut padded = parameter.chunk.f_zeros_like().during(CUTTING)?;
            let target = padded.f_narrow(0, 0, v.numel() as i64);
            target.and_then(|mut target| target.f_copy_(&v.f_reshape([-1])?)).during(CUTTING)?;
            let chunks = group.call("gathering a vector", |group| group.all_gather(&padded))?;
            padded = Tensor::f_cat(&chunks, 0).during(CUTTING)?;
            Ok(padded.f_narrow(0, 0, parameter.shape.iter().product()).during(CUTTING)?)
        });
        whole.collect::<Result<_>>().map(Some)
    }
}

impl Parameter {
    /// One chunk for each rank, with zeros behind the last element.
    fn chunks(&self, full: &Tensor, world_size: usize) -> Result<Vec<Tensor>, tch::TchError> {
        let (width, count) = (self.chunk.numel(), full.numel());
        let mut padded = Tensor::f_zeros([(width * world_size) as i64], (full.kind(), full.device()))?;
        padded.f_narrow(0, 0, count as i64)?.f_copy_(&full.f_reshape([-1])?)?;
        padded = padded.f_view([world_size as i64, width as i64])?;
        (0..world_size).map(|rank| padded.f_get(rank as i64)).collect()
    }
}
