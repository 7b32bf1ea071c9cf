//! The spectrum of one diagonal block: quadrature on P_b H P_b, from P_b v.

use super::comparison::COMPARING;
use super::direction::clear;
use super::sums::Blocks;
use crate::config::{Distribution, Reorthogonalize, SlqConfig};
use crate::error::Result;
use crate::krylov::lanczos::agree;
use crate::krylov::{Basis, Lanczos, Operator, Product, Wrapper};
use crate::sharded::layout::Layout;
use crate::sharded::random::RandomProbe;
use crate::sharded::vector::ShardedVector;
use crate::slq;
use crate::spectrum::ProbeRecord;
use tch::{TchError, Tensor};

/// P_b H P_b on vectors over the block's parameters alone.
struct InBlock<'a> {
    inner: &'a mut dyn Operator,
    layout: &'a Layout,
    blocks: &'a Blocks,
    block: usize,
    /// A vector over all parameters that is zero outside the block.
    q: &'a Tensor,
    w: &'a mut Tensor,
}

impl InBlock<'_> {
    fn copy(&self, whole: &Tensor, part: &Tensor, out: bool) -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        // Both have the block's segments in the same order.
        for (of_whole, of_part) in self.blocks.segments(self.block).iter().zip(self.layout.segments()) {
            let mut whole = whole.f_narrow(0, of_whole.start, of_whole.len)?;
            let mut part = part.f_narrow(0, of_part.start, of_part.len)?;
            if out {
                part.f_copy_(&whole)?
            } else {
                whole.f_copy_(&part)?
            };
        }
        Ok(())
    }
}

impl<'a> Wrapper for InBlock<'a> {
    type Inner = dyn Operator + 'a;

    fn inner(&self) -> &Self::Inner {
        self.inner
    }

    fn inner_mut(&mut self) -> &mut Self::Inner {
        self.inner
    }

    fn wrapped_layout(&self) -> &Layout {
        self.layout
    }

    fn product(
        &mut self,
        index: usize,
        q: &Tensor,
        expected_norm: Option<f64>,
        target: &mut Tensor,
    ) -> Result<Product> {
        let copied = self.copy(self.q, q, false);
        self.inner.defer(COMPARING, copied);
        let product = self.inner.apply(index, self.q, expected_norm, self.w)?;
        let copied = self.copy(self.w, target, true);
        self.inner.defer(COMPARING, copied);
        Ok(product)
    }
}

/// Spectra of the blocks for which `steps` is not 0. Beside one vector over all parameters, the memory is that of
/// one block's basis at a time.
pub(super) fn spectra(
    operator: &mut dyn Operator,
    layouts: &[Layout],
    block_of: impl Fn(usize) -> Option<usize>,
    steps: &[u64],
    slq: &SlqConfig,
    w: &mut Tensor,
) -> Result<Vec<Option<ProbeRecord>>> {
    if steps.iter().all(|steps| *steps == 0) {
        return Ok(vec![None; steps.len()]);
    }
    let whole = operator.layout();
    let allocated = Blocks::new(whole, layouts.len(), block_of)
        .and_then(|blocks| Ok((blocks, ShardedVector::zeros(whole)?.into_tensor())));
    let (blocks, q) = agree(operator, COMPARING, allocated)?;
    let mut spectra = Vec::with_capacity(steps.len());
    for (block, (layout, &steps)) in layouts.iter().zip(steps).enumerate() {
        if steps == 0 {
            spectra.push(None);
            continue;
        }
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let reorthogonalize = slq.reorthogonalize;
        let started = start(layout, reorthogonalize, steps, slq.seed);
        let (mut basis, mut in_block) = agree(operator, COMPARING, started)?;
        let mut restricted =
            InBlock { inner: &mut *operator, layout, blocks: &blocks, block, q: &q, w: &mut *w };
        let lanczos = Lanczos { steps, reorthogonalize };
        // What the probe's own runs have learned stays with them.
        let mut memory = Vec::new();
        restricted.exchange_curvature(&mut memory);
        let run = lanczos.run(&mut restricted, &mut basis, &mut in_block);
        restricted.exchange_curvature(&mut memory);
        spectra.push(Some(slq::spectrum(&mut restricted, 0, &run?, &basis, slq)?));
        let cleared = clear(blocks.segments(block), &q);
        operator.defer(COMPARING, cleared);
    }
    Ok(spectra)
}

/// A basis whose first vector is P_b v / ‖P_b v‖, and a vector of work.
fn start(
    layout: &Layout,
    reorthogonalize: Reorthogonalize,
    steps: usize,
    seed: u64,
) -> Result<(Basis, Tensor), TchError> {
    let mut basis = Basis::new(layout, reorthogonalize, steps)?;
    let row = basis.next_row()?;
    RandomProbe::new(seed, 0, Distribution::Rademacher).write_scaled(layout, &row)?;
    basis.commit()?;
    Ok((basis, ShardedVector::zeros(layout)?.into_tensor()))
}
