//! Sums over the entries of one block, and updates of them.

use crate::sharded::layout::{Layout, Segment};
use crate::sharded::sums::{Rows, Sums};
use crate::sharded::vector::{chunk_size, number};
use tch::{TchError, Tensor};

/// The blocks as they lie in this rank's vectors over all parameters, with room to sum over them.
#[derive(Debug)]
pub(super) struct Blocks {
    segments: Vec<Vec<Segment>>,
    rows: Rows,
    chunk: i64,
    counted_len: i64,
}

impl Blocks {
    pub(super) fn new(
        layout: &Layout,
        blocks: usize,
        block_of: impl Fn(usize) -> Option<usize>,
    ) -> Result<Self, TchError> {
        let mut segments = vec![Vec::new(); blocks];
        for segment in layout.segments() {
            if let Some(block) = block_of(segment.shard) {
                segments[block].push(segment.clone());
            }
        }
        let (rows, chunk) = (Rows::new(layout, 4)?, chunk_size(layout));
        Ok(Self { segments, rows, chunk, counted_len: layout.counted_len() })
    }

    pub(super) fn segments(&self, block: usize) -> &[Segment] {
        &self.segments[block]
    }

    fn pieces(&self, block: usize) -> impl Iterator<Item = (i64, i64, bool)> + '_ {
        self.segments[block].iter().flat_map(move |segment| {
            let (counted, end) = (segment.start < self.counted_len, segment.start + segment.len);
            (segment.start..end)
                .step_by(self.chunk as usize)
                .map(move |start| (start, self.chunk.min(end - start), counted))
        })
    }

    /// This rank's part of ⟨a, v⟩ over a block for the first vector a and every vector v (at most four).
    pub(super) fn products<const K: usize>(
        &self,
        block: usize,
        vectors: [&Tensor; K],
    ) -> Result<[f64; K], TchError> {
        let mut sums = Sums::<K>::new();
        for (start, len, _) in self.pieces(block).filter(|piece| piece.2) {
            let pieces: Vec<Tensor> =
                vectors.iter().map(|vector| vector.f_narrow(0, start, len)).collect::<Result<_, _>>()?;
            let rows = self.rows.fill(&pieces.iter().collect::<Vec<_>>())?;
            let rows = rows.f_narrow(0, 0, K as i64)?;
            sums.add(&rows, &rows.f_select(0, 0)?)?;
        }
        sums.finish()
    }

    /// This rank's part of ‖factor·a − other_factor·b‖² over a block, without cancellation.
    pub(super) fn difference(
        &self,
        block: usize,
        [factor, other_factor]: [f64; 2],
        [a, b]: [&Tensor; 2],
    ) -> Result<f64, TchError> {
        let mut sums = Sums::<1>::new();
        for (start, len, _) in self.pieces(block).filter(|piece| piece.2) {
            let rows = self.rows.fill(&[&a.f_narrow(0, start, len)?, &b.f_narrow(0, start, len)?])?;
            let (mut a, b) = (rows.f_select(0, 0)?, rows.f_select(0, 1)?);
            let _ = a.f_mul_(&number(factor, &a)?)?;
            sums.add_square(&a.f_addcmul_(&b, &number(-other_factor, &b)?)?)?;
        }
        Ok(sums.finish()?[0])
    }

    /// target ← target + factor·w on a block.
    pub(super) fn add(&self, block: usize, factor: f64, w: &Tensor, target: &Tensor) -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        let factor = number(factor, w)?;
        for (start, len, _) in self.pieces(block) {
            let _ = target.f_narrow(0, start, len)?.f_addcmul_(&w.f_narrow(0, start, len)?, &factor)?;
        }
        Ok(())
    }
}
