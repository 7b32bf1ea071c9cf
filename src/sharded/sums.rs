//! Local sums in f64 over a rank's counted entries: what is then reduced over ranks.

use crate::sharded::layout::Layout;
use crate::sharded::vector::counted_ranges;
use tch::{Kind, TchError, Tensor};

/// Sums that are collected piece by piece and read from the device once.
#[derive(Debug)]
pub(crate) struct Sums<const K: usize> {
    pieces: Vec<Tensor>,
}

impl<const K: usize> Sums<K> {
    pub(crate) fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// Adds the dot products of K pairs of f64 tensors.
    pub(crate) fn add(&mut self, pairs: [(&Tensor, &Tensor); K]) -> Result<(), TchError> {
        for (a, b) in pairs {
            self.pieces.push(a.f_dot(b)?);
        }
        // Keeps the list short at hundreds of millions of entries.
        if self.pieces.len() >= 4096 * K {
            self.pieces =
                self.totals()?.map_or_else(Vec::new, |totals| (0..K as i64).map(|k| totals.get(k)).collect());
        }
        Ok(())
    }

    fn totals(&self) -> Result<Option<Tensor>, TchError> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let stacked = Tensor::f_stack(&self.pieces, 0)?.f_view([-1, K as i64])?;
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

/// A range of a local vector, in f64.
pub(crate) fn double(vector: &Tensor, start: i64, len: i64) -> Result<Tensor, TchError> {
    vector.f_narrow(0, start, len)?.f_to_kind(Kind::Double)
}

/// This rank's part of ‖a‖².
pub(crate) fn norm_squared(layout: &Layout, a: &Tensor) -> Result<f64, TchError> {
    let mut sums = Sums::<1>::new();
    for (start, len) in counted_ranges(layout) {
        let piece = double(a, start, len)?;
        sums.add([(&piece, &piece)])?;
    }
    Ok(sums.finish()?[0])
}
