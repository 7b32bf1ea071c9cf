//! A block on its way from all ranks, while another computes.

use super::gather::{GatherMeter, Gathered};
use super::layout::BlockLayout;
use crate::error::{At, Error, Result};
use crate::precision::cast;
use hessian_probe_c10d::{ProcessGroup, Started};
use tch::{Kind, Tensor};

/// A block, and the one that it borrows from, whose parameters are under way.
///
/// Slices are read until [`finish`](Self::finish) has returned: nobody changes them before. Dropping it waits for that,
/// too.
#[derive(Debug)]
pub struct Gathering<'a> {
    /// Before `gathered`, so that no buffer is counted as free that is still written to.
    parts: Vec<Part<'a>>,
    gathered: Gathered,
    compute: Kind,
    rank: usize,
}

#[derive(Debug)]
struct Part<'a> {
    started: Option<Started<'a>>,
    layout: &'a BlockLayout,
    flat: Tensor,
}

impl<'a> Gathering<'a> {
    /// Nothing yet; parameters will be cast to `compute`.
    pub(super) fn new(meter: &GatherMeter, compute: Kind, rank: usize) -> Self {
        Self { parts: Vec::new(), gathered: Gathered::new(meter), compute, rank }
    }

    /// Begins with one more block, cast to `kind` before it is sent. Collective.
    pub(super) fn start(
        &mut self,
        group: &'a ProcessGroup,
        layout: &'a BlockLayout,
        shard: &Tensor,
        kind: Kind,
    ) -> Result<()> {
        let describe = || format!("gathering block `{}`", layout.name);
        let shard = cast(shard, kind).at(self.rank, describe)?;
        let (flat, started) = if group.world_size() == 1 {
            // The shard is the whole block: no copy.
            (shard, None)
        } else {
            let flat = Tensor::f_empty([layout.padded() as i64], (kind, shard.device()));
            let flat = flat.at(self.rank, describe)?;
            let started = group.start_all_gather_into(&flat, &shard);
            let started = started.map_err(|source| self.failed(layout, source))?;
            (flat, Some(started))
        };
        self.gathered.count(layout, kind);
        self.parts.push(Part { started, layout, flat });
        Ok(())
    }

    /// Waits for the parameters, which are leaves of a graph if `requires_grad`.
    ///
    /// # Errors
    /// [`Communication`](Error::Communication), or [`Torch`](Error::Torch) when memory is short.
    pub fn finish(mut self, requires_grad: bool) -> Result<Gathered> {
        for Part { started, layout, flat } in std::mem::take(&mut self.parts) {
            if let Some(started) = started {
                started.wait().map_err(|source| self.failed(layout, source))?;
            }
            self.gathered.add(layout, flat, self.compute, requires_grad, self.rank)?;
        }
        Ok(self.gathered)
    }

    fn failed(&self, layout: &BlockLayout, source: hessian_probe_c10d::Error) -> Error {
        let during = format!("gathering block `{}`", layout.name);
        Error::Communication { rank: self.rank, during, source: Box::new(source) }
    }
}
