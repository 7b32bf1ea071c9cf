//! The stored Lanczos vectors of one rank, and orthogonalisation against them.

use crate::config::Reorthogonalize;
use crate::sharded::layout::Layout;
use tch::{Kind, TchError, Tensor};

/// Entries summed in the vectors' own precision before the partial sums go on in f64.
const BLOCK_CPU: i64 = 1 << 14;
const BLOCK_DEVICE: i64 = 1 << 20;

/// The last `capacity` vectors of a recurrence, one a row: row j lives in slot j mod capacity.
#[derive(Debug)]
pub struct Basis {
    rows: Tensor,
    capacity: usize,
    len: usize,
    counted_len: i64,
    block: i64,
}

impl Basis {
    /// Room for the vectors that `reorthogonalize` needs in a run of `steps` steps.
    ///
    /// # Errors
    /// When libtorch cannot allocate it.
    pub fn new(layout: &Layout, reorthogonalize: Reorthogonalize, steps: usize) -> Result<Self, TchError> {
        let capacity = reorthogonalize.basis_vectors(steps);
        Ok(Self {
            rows: Tensor::f_empty([capacity as i64, layout.local_len()], (layout.kind(), layout.device()))?,
            capacity,
            len: 0,
            counted_len: layout.counted_len(),
            block: if layout.device().is_cuda() { BLOCK_DEVICE } else { BLOCK_CPU },
        })
    }

    /// Forgets all vectors, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// How many vectors were appended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held on this rank.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.rows.numel() as u64 * self.rows.kind().elt_size_in_bytes() as u64
    }

    /// The vectors that are still stored.
    pub(crate) fn stored(&self) -> usize {
        self.len.min(self.capacity)
    }

    fn slot(&self, index: usize) -> i64 {
        (index % self.capacity) as i64
    }

    /// Vector number `index`, as an alias of its row; it must be one of the last `capacity`.
    ///
    /// # Errors
    /// When there is no such vector.
    pub fn vector(&self, index: usize) -> Result<Tensor, TchError> {
        if index >= self.len || index + self.capacity < self.len {
            return Err(TchError::Shape(format!("basis vector {index} of {} is not stored", self.len)));
        }
        self.rows.f_select(0, self.slot(index))
    }

    /// The row that the next vector goes to, still with old contents; [`commit`](Self::commit) appends it.
    ///
    /// # Errors
    /// As libtorch reports.
    pub fn next_row(&self) -> Result<Tensor, TchError> {
        self.rows.f_select(0, self.slot(self.len))
    }

    /// Appends what was written to [`next_row`](Self::next_row).
    pub fn commit(&mut self) {
        self.len += 1;
    }

    /// This rank's part of ⟨q_i, w⟩ for every stored vector, in slot order.
    ///
    /// Partial sums over blocks are taken in the vectors' precision by matrix-vector products (one
    /// pass over the basis) and added up in f64.
    ///
    /// # Errors
    /// As libtorch reports.
    pub fn coefficients(&self, w: &Tensor) -> Result<Vec<f64>, TchError> {
        let stored = self.stored();
        let rows = self.rows.f_narrow(0, 0, stored as i64)?;
        let mut partial = Vec::new();
        for start in (0..self.counted_len).step_by(self.block as usize) {
            let len = self.block.min(self.counted_len - start);
            partial.push(rows.f_narrow(1, start, len)?.f_mv(&w.f_narrow(0, start, len)?)?);
        }
        let mut values = vec![0.0; stored];
        if !partial.is_empty() {
            Tensor::f_stack(&partial, 0)?
                .f_sum_dim_intlist([0_i64].as_slice(), false, Kind::Double)?
                .f_to_device(tch::Device::Cpu)?
                .f_copy_data(&mut values, stored)?;
        }
        Ok(values)
    }

    /// w ← w − Σ c_i q_i over every stored vector, `coefficients` in slot order.
    ///
    /// # Errors
    /// As libtorch reports.
    pub fn subtract(&self, w: &mut Tensor, coefficients: &[f64]) -> Result<(), TchError> {
        let rows = self.rows.f_narrow(0, 0, coefficients.len() as i64)?;
        let negated: Vec<f64> = coefficients.iter().map(|c| -c).collect();
        let negated = Tensor::f_from_slice(&negated)?.f_to_device(w.device())?.f_to_kind(w.kind())?;
        let _ = w.f_addmv_(&rows.f_tr()?, &negated)?;
        Ok(())
    }
}
