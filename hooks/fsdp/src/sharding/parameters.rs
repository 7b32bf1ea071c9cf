//! This rank's slices of all parameters.

use super::gather::{GatherMeter, Gathered};
use super::gathering::Gathering;
use super::layout::{BlockLayout, ParameterLayout};
use crate::error::{At, Error, Result};
use crate::model::Llama;
use crate::precision::{PrecisionPolicy, cast};
use hessian_probe::Shard;
use hessian_probe_c10d::ProcessGroup;
use tch::{Kind, Tensor, no_grad_guard};

/// How many initial values are computed at a time.
const CHUNK: usize = 1 << 20;

/// The parameters of a model in slices, one flat tensor per block on each rank.
#[derive(Debug)]
pub struct ShardedParameters {
    layouts: Vec<BlockLayout>,
    borrows: Vec<Option<usize>>,
    shards: Vec<Tensor>,
    /// Wider copies that are used in place of `shards` while they exist.
    widened: Option<Vec<Tensor>>,
    rank: usize,
    meter: GatherMeter,
}

impl ShardedParameters {
    /// This rank's slices with the initial values that `seed` gives: the same model on any number of
    /// ranks, none of which computes more than its slice.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch) when memory is short.
    pub fn initialized(model: &Llama, rank: usize, world_size: usize, seed: u64) -> Result<Self> {
        let parameters = Self::zeros(model, rank, world_size)?;
        for (layout, shard) in parameters.layouts.iter().zip(&parameters.shards) {
            for parameter in &layout.parameters {
                let slice = layout.slice(rank, parameter);
                for done in (0..slice.len).step_by(CHUNK) {
                    let count = CHUNK.min(slice.len - done);
                    let start = (slice.parameter_start + done) as u64;
                    let values = parameter.spec.init.values(seed, &parameter.spec.name, start, count);
                    shard
                        .f_narrow(0, (slice.shard_start + done) as i64, count as i64)
                        .and_then(|mut target| target.f_copy_(&Tensor::f_from_slice(&values)?))
                        .at(rank, || format!("initializing block `{}`", layout.name))?;
                }
            }
        }
        Ok(parameters)
    }

    /// This rank's slices, all zero: for values that are read from somewhere.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch) when memory is short.
    pub fn zeros(model: &Llama, rank: usize, world_size: usize) -> Result<Self> {
        let layouts = BlockLayout::of_blocks(model.blocks(), world_size);
        let shards = layouts.iter().map(|layout| {
            Tensor::f_zeros([layout.shard_len as i64], (model.kind(), model.device()))
                .at(rank, || format!("the parameters of block `{}`", layout.name))
        });
        let shards = shards.collect::<Result<Vec<_>>>()?;
        let borrows = model.blocks().iter().map(|block| block.borrows).collect();
        Ok(Self { layouts, borrows, shards, widened: None, rank, meter: GatherMeter::default() })
    }

    /// The layout of each block.
    #[must_use]
    pub fn layouts(&self) -> &[BlockLayout] {
        &self.layouts
    }

    /// This rank's flat slice of each block, padding included.
    pub(crate) fn flat_shards(&self) -> &[Tensor] {
        &self.shards
    }

    /// The block from which block number `block` borrows parameters.
    pub(crate) fn borrows(&self, block: usize) -> Option<usize> {
        self.borrows.get(block).copied().flatten()
    }

    /// This rank.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The meter of gathered blocks.
    #[must_use]
    pub fn meter(&self) -> &GatherMeter {
        &self.meter
    }

    /// Makes copies of the shards in `kind`, which every pass uses from now on; the shards themselves are left
    /// alone. Does nothing where they are of that kind.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch) when memory is short.
    pub fn widen(&mut self, kind: Kind) -> Result<()> {
        let copy = |(layout, shard): (&BlockLayout, &Tensor)| {
            cast(shard, kind).at(self.rank, || format!("a copy of block `{}` in {kind:?}", layout.name))
        };
        let needed = self.shards.iter().any(|shard| shard.f_kind().is_ok_and(|own| own != kind));
        self.widened =
            needed.then(|| self.layouts.iter().zip(&self.shards).map(copy).collect()).transpose()?;
        Ok(())
    }

    /// Drops the copies that [`widen`](Self::widen) made, and what was written to them.
    pub fn drop_widened(&mut self) {
        self.widened = None;
    }

    /// What passes use: the wider copies where there are some, or else the shards.
    pub(crate) fn live(&self) -> &[Tensor] {
        self.widened.as_deref().unwrap_or(&self.shards)
    }

    /// Gathers block number `block`, and the one that it borrows from, on every rank, in the kind in which they are
    /// stored. Collective.
    ///
    /// # Errors
    /// [`Communication`](Error::Communication), or [`Torch`](Error::Torch) when memory is short.
    pub fn gather(&self, group: &ProcessGroup, block: usize, requires_grad: bool) -> Result<Gathered> {
        let kind = self.shards.first().map_or(Ok(Kind::Float), Tensor::f_kind);
        let kind = kind.at(self.rank, || "the kind of the parameters")?;
        let blocks = std::iter::once(block).chain(self.borrows(block));
        self.start(group, blocks, &self.shards, [kind; 2])?.finish(requires_grad)
    }

    /// Begins to gather `blocks` for a pass, cast as `policy` says. Collective.
    ///
    /// # Errors
    /// As [`gather`](Self::gather).
    pub(crate) fn start_gather<'a>(
        &'a self,
        group: &'a ProcessGroup,
        blocks: impl IntoIterator<Item = usize>,
        policy: &PrecisionPolicy,
    ) -> Result<Gathering<'a>> {
        self.start(group, blocks, self.live(), [policy.gather, policy.compute])
    }

    /// Cast to the first of `kinds` before they are sent and to the second afterwards.
    fn start<'a>(
        &'a self,
        group: &'a ProcessGroup,
        blocks: impl IntoIterator<Item = usize>,
        shards: &[Tensor],
        [gather, compute]: [Kind; 2],
    ) -> Result<Gathering<'a>> {
        let mut gathering = Gathering::new(&self.meter, compute, self.rank);
        for index in blocks {
            if let (Some(layout), Some(shard)) = (self.layouts.get(index), shards.get(index)) {
                gathering.start(group, layout, shard, gather)?;
            }
        }
        Ok(gathering)
    }

    /// What this rank owns of each parameter, in the order of blocks; aliases, padding excluded.
    ///
    /// # Errors
    /// [`Torch`](Error::Torch), when libtorch cannot allocate a view.
    pub fn shards(&self) -> Result<Vec<Shard>> {
        self.named(&self.shards)
    }

    /// [`shards`](Self::shards), of the [widened](Self::widen) copies while there are some.
    ///
    /// # Errors
    /// As [`shards`](Self::shards).
    pub fn live_shards(&self) -> Result<Vec<Shard>> {
        self.named(self.live())
    }

    fn named(&self, flat: &[Tensor]) -> Result<Vec<Shard>> {
        let mut shards = Vec::new();
        for (layout, flat) in self.layouts.iter().zip(flat) {
            let tensors = layout.split_shard(self.rank, flat).at(self.rank, || "a view of the shards")?;
            for (parameter, tensor) in layout.parameters.iter().zip(tensors) {
                shards.push(Shard {
                    name: parameter.spec.name.clone(),
                    block: layout.name.clone(),
                    tensor,
                    global_offset: layout.slice(self.rank, parameter).global_offset,
                    replicated: false,
                });
            }
        }
        Ok(shards)
    }

    /// The whole of one parameter, as a copy. Collective; gathers its block for the duration.
    ///
    /// # Errors
    /// [`UnknownParameter`](Error::UnknownParameter), [`Communication`](Error::Communication).
    pub fn full(&self, group: &ProcessGroup, name: &str) -> Result<Tensor> {
        let (block, index, _) = self.find(name)?;
        let gathered = self.gather(group, block, false)?;
        let parameter =
            gathered.parameters().get(index).ok_or_else(|| Error::UnknownParameter { name: name.into() })?;
        let _no_grad = no_grad_guard();
        let copy = || parameter.f_to_dtype(parameter.f_kind()?, false, true);
        copy().at(self.rank, || format!("a copy of `{name}`"))
    }

    /// Sets one parameter to `values` (its whole, of the same shape, on every rank). Not collective:
    /// each rank takes its slice.
    ///
    /// # Errors
    /// [`UnknownParameter`](Error::UnknownParameter), [`ParameterShape`](Error::ParameterShape).
    pub fn set(&self, name: &str, values: &Tensor) -> Result<()> {
        let (block, _, parameter) = self.find(name)?;
        if values.size() != parameter.spec.shape {
            return Err(Error::ParameterShape {
                name: name.into(),
                expected: parameter.spec.shape.clone(),
                found: values.size(),
            });
        }
        let _no_grad = no_grad_guard();
        let slice = self.layouts[block].slice(self.rank, parameter);
        let copy = || {
            self.shards[block].f_narrow(0, slice.shard_start as i64, slice.len as i64)?.f_copy_(
                &values.f_reshape([-1])?.f_narrow(0, slice.parameter_start as i64, slice.len as i64)?,
            )
        };
        copy().at(self.rank, || format!("setting `{name}`"))
    }

    /// Block, index in the block and layout of a parameter.
    fn find(&self, name: &str) -> Result<(usize, usize, &ParameterLayout)> {
        self.layouts
            .iter()
            .enumerate()
            .find_map(|(block, layout)| {
                let index = layout.parameters.iter().position(|parameter| parameter.spec.name == name)?;
                Some((block, index, &layout.parameters[index]))
            })
            .ok_or_else(|| Error::UnknownParameter { name: name.into() })
    }
}
