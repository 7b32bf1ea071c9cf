//! Local sums in f64 over a rank's counted entries: what is then reduced over ranks.

use crate::sharded::layout::Layout;
use crate::sharded::vector::{chunk_size, counted_ranges};
use tch::{Kind, TchError, Tensor};

/// K sums that are collected piece by piece and read from the device once.
#[derive(Debug)]
pub(crate) struct Sums<const K: usize> {
    /// K entries each.
    pieces: Vec<Tensor>,
}

impl<const K: usize> Sums<K> {
    pub(crate) fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// Adds the products of K vectors, the rows of an f64 matrix, with one more.
    pub(crate) fn add(&mut self, rows: &Tensor, vector: &Tensor) -> Result<(), TchError> {
        self.pieces.push(rows.f_mv(vector)?);
        // Keeps the list short at hundreds of millions of entries.
        if self.pieces.len() >= 4096 {
            self.pieces = self.totals()?.into_iter().collect();
        }
        Ok(())
    }

    fn totals(&self) -> Result<Option<Tensor>, TchError> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let stacked = Tensor::f_stack(&self.pieces, 0)?;
        Ok(Some(stacked.f_sum_dim_intlist([0_i64].as_slice(), false, Kind::Double)?))
    }

    pub(crate) fn finish(self) -> Result<[f64; K], TchError> {
        let mut values = [0.0; K];
        if let Some(totals) = self.totals()? {
            totals.f_to_device(tch::Device::Cpu)?.f_copy_data(&mut values, K)?;
        }
        Ok(values)
    }
}

impl Sums<1> {
    /// Adds the squared norm of a vector of any type.
    pub(crate) fn add_square(&mut self, vector: &Tensor) -> Result<(), TchError> {
        let vector = vector.f_to_kind(Kind::Double)?;
        self.add(&vector.f_view([1, -1])?, &vector)
    }
}

/// Rows of f64 for one piece of K vectors at a time, so that one pass sums all their products and no
/// memory is allocated for a piece.
#[derive(Debug)]
pub(crate) struct Rows {
    rows: Tensor,
}

impl Rows {
    /// Room for `count` vectors in pieces of the layout's chunks.
    pub(crate) fn new(layout: &Layout, count: i64) -> Result<Self, TchError> {
        let len = chunk_size(layout).min(layout.local_len());
        Ok(Self { rows: Tensor::f_empty([count, len], (Kind::Double, layout.device()))? })
    }

    /// The rows, cut to the length of these vectors, which they then hold in f64.
    pub(crate) fn fill(&self, vectors: &[&Tensor]) -> Result<Tensor, TchError> {
        let len = vectors.first().map_or(0, |vector| vector.numel() as i64);
        let rows = self.rows.f_narrow(1, 0, len)?;
        for (row, vector) in (0..).zip(vectors) {
            rows.f_select(0, row)?.f_copy_(vector)?;
        }
        Ok(rows)
    }
}

/// This rank's part of ‖a‖².
pub(crate) fn norm_squared(layout: &Layout, a: &Tensor) -> Result<f64, TchError> {
    let mut sums = Sums::<1>::new();
    for (start, len) in counted_ranges(layout) {
        sums.add_square(&a.f_narrow(0, start, len)?)?;
    }
    Ok(sums.finish()?[0])
}

/// This rank's part of ⟨a, b⟩.
pub(crate) fn inner_product(layout: &Layout, a: &Tensor, b: &Tensor) -> Result<f64, TchError> {
    let mut sums = Sums::<1>::new();
    for (start, len) in counted_ranges(layout) {
        let piece = |vector: &Tensor| vector.f_narrow(0, start, len)?.f_to_kind(Kind::Double);
        sums.add(&piece(a)?.f_view([1, -1])?, &piece(b)?)?;
    }
    Ok(sums.finish()?[0])
}
