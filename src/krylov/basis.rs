//! The stored Lanczos vectors of one rank, and orthogonalisation against them.

use crate::config::{BasisConfig, BasisDevice, BasisKind, Reorthogonalize};
use crate::krylov::room::{CONVERTED, Room};
use crate::sharded::fused::{self, Source, spans_of_vectors};
use crate::sharded::layout::Layout;
use crate::sharded::sums::Sums;
use crate::sharded::vector::{chunk_size, number};
use tch::{Device, Kind, TchError, Tensor};

/// Entries summed in the vectors' own precision before the partial sums go on in f64.
const BLOCK_CPU: i64 = 1 << 14;
const BLOCK_DEVICE: i64 = 1 << 20;

/// The last `capacity` vectors of a recurrence, one a row: row j lives in slot j mod capacity.
#[derive(Debug)]
pub struct Basis {
    rows: Tensor,
    /// The last two vectors as they are, where `rows` are of another type or on another device.
    recent: Option<Tensor>,
    kind: Kind,
    device: Device,
    capacity: usize,
    len: usize,
    counted_len: i64,
    local_len: i64,
    piece: i64,
    block: i64,
}

impl Basis {
    /// Room for the vectors that `reorthogonalize` needs in a run of `steps` steps.
    ///
    /// # Errors
    /// When libtorch cannot allocate it.
    pub fn new(layout: &Layout, reorthogonalize: Reorthogonalize, steps: usize) -> Result<Self, TchError> {
        Self::stored_as(layout, reorthogonalize, steps, BasisConfig::default())
    }

    /// The same, with vectors stored in another type or elsewhere.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn stored_as(
        layout: &Layout,
        reorthogonalize: Reorthogonalize,
        steps: usize,
        config: BasisConfig,
    ) -> Result<Self, TchError> {
        let (kind, device) = (layout.kind(), layout.device());
        let width = kind.elt_size_in_bytes() as u64;
        let Room { capacity, apart, .. } =
            Room::new(reorthogonalize, steps, config, width, device != Device::Cpu);
        let stored = config.dtype.map_or(kind, BasisKind::kind);
        let place = if config.device == Some(BasisDevice::Cpu) { Device::Cpu } else { device };
        let rows =
            |count: usize, kind, device| Tensor::f_empty([count as i64, layout.local_len()], (kind, device));
        Ok(Self {
            rows: if apart { rows(capacity, stored, place)? } else { rows(capacity, kind, device)? },
            recent: if apart { Some(rows(2, kind, device)?) } else { None },
            kind,
            device,
            capacity,
            len: 0,
            counted_len: layout.counted_len(),
            local_len: layout.local_len(),
            piece: chunk_size(layout),
            block: if layout.device().is_cuda() { BLOCK_DEVICE } else { BLOCK_CPU },
        })
    }

    /// Room for `count` vectors that are no recurrence's.
    ///
    /// # Errors
    /// When libtorch cannot allocate it.
    pub(crate) fn outliers(layout: &Layout, count: usize) -> Result<Self, TchError> {
        let basis = Self::new(layout, Reorthogonalize::Full, count.max(1))?;
        Ok(Self { capacity: count.max(1), ..basis })
    }

    /// w ← Σ c_i q_i, all vectors being stored.
    ///
    /// # Errors
    /// When they are not, and as libtorch reports.
    pub(crate) fn combination(&self, coefficients: &[f64], w: &mut Tensor) -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        if coefficients.len() != self.stored() || self.oldest() > 0 {
            let reason = format!("{} coefficients for {} vectors", coefficients.len(), self.stored());
            return Err(TchError::Shape(reason));
        }
        let factors = Tensor::f_from_slice(coefficients)?.f_to_device(w.device())?.f_to_kind(w.kind())?;
        for (start, len) in self.pieces() {
            let _ = w.f_narrow(0, start, len)?.f_zero_()?;
            self.add_combination(w, &factors, (start, len))?;
        }
        Ok(())
    }

    /// Adds Σ c_i q_i, of the rows in slot order, to the entries of `w` from `start` on.
    fn add_combination(
        &self,
        w: &Tensor,
        factors: &Tensor,
        (start, len): (i64, i64),
    ) -> Result<(), TchError> {
        let stored = factors.numel();
        let rows = self.rows.f_narrow(0, 0, stored as i64)?;
        for (from, len) in cut(start, start + len, self.at_once(stored, len)) {
            let block = self.as_vectors(&rows.f_narrow(1, from, len)?)?;
            let _ = w.f_narrow(0, from, len)?.f_addmv_(&block.f_tr()?, factors)?;
        }
        Ok(())
    }

    /// Of how many entries `stored` rows may be converted at a time, `most` at most.
    fn at_once(&self, stored: usize, most: i64) -> i64 {
        match &self.recent {
            Some(_) => most.min(self.piece * CONVERTED as i64 / stored.max(1) as i64).max(1),
            None => most,
        }
    }

    /// Forgets all vectors, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Forgets all vectors; the next one is number `index`.
    pub(crate) fn skip_to(&mut self, index: usize) {
        self.len = index;
    }

    /// How many vectors there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The number of the oldest vector that is still stored.
    pub(crate) fn oldest(&self) -> usize {
        self.len.saturating_sub(self.capacity)
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
        let size = |tensor: &Tensor| tensor.numel() as u64 * tensor.kind().elt_size_in_bytes() as u64;
        size(&self.rows) + self.recent.as_ref().map_or(0, size)
    }

    /// The vectors that are still stored.
    pub(crate) fn stored(&self) -> usize {
        self.len.min(self.capacity)
    }

    fn slot(&self, index: usize) -> i64 {
        (index % self.capacity) as i64
    }

    /// The slot among the recent vectors.
    fn recent_slot(index: usize) -> i64 {
        (index % 2) as i64
    }

    /// Vector number `index`, which must be one of the last `capacity`: an alias of its row, or, where it is
    /// only stored in another type or elsewhere, a copy.
    ///
    /// # Errors
    /// When there is no such vector.
    pub fn vector(&self, index: usize) -> Result<Tensor, TchError> {
        if index >= self.len || index + self.capacity < self.len {
            return Err(TchError::Shape(format!("basis vector {index} of {} is not stored", self.len)));
        }
        match &self.recent {
            Some(recent) if index + 2 >= self.len => recent.f_select(0, Self::recent_slot(index)),
            Some(_) => self.as_vectors(&self.rows.f_select(0, self.slot(index))?),
            None => self.rows.f_select(0, self.slot(index)),
        }
    }

    /// The row that the next vector goes to, still with old contents; [`commit`](Self::commit) appends it.
    ///
    /// # Errors
    /// As libtorch reports.
    pub fn next_row(&self) -> Result<Tensor, TchError> {
        match &self.recent {
            Some(recent) => recent.f_select(0, Self::recent_slot(self.len)),
            None => self.rows.f_select(0, self.slot(self.len)),
        }
    }

    /// Appends what was written to [`next_row`](Self::next_row).
    ///
    /// # Errors
    /// As libtorch reports.
    pub fn commit(&mut self) -> Result<(), TchError> {
        if let Some(recent) = &self.recent {
            let _no_grad = tch::no_grad_guard();
            let row = recent.f_select(0, Self::recent_slot(self.len))?;
            self.rows.f_select(0, self.slot(self.len))?.f_copy_(&row)?;
        }
        self.len += 1;
        Ok(())
    }

    /// Stored rows, or pieces of them, as the vectors are.
    fn as_vectors(&self, stored: &Tensor) -> Result<Tensor, TchError> {
        if self.recent.is_some() {
            stored.f_to_device(self.device)?.f_to_kind(self.kind)
        } else {
            Ok(stored.shallow_clone())
        }
    }

    /// This rank's part of QQᵀ over the stored vectors in slot order, row by row.
    pub(crate) fn gram(&self) -> Result<Vec<f64>, TchError> {
        let _no_grad = tch::no_grad_guard();
        let stored = self.stored();
        let rows = self.rows.f_narrow(0, 0, stored as i64)?;
        let mut total = Tensor::f_zeros([stored as i64; 2], (Kind::Double, self.device))?;
        for (start, len) in cut(0, self.counted_len, self.at_once(stored, self.block)) {
            let block = self.as_vectors(&rows.f_narrow(1, start, len)?)?;
            let _ = total.f_add_(&block.f_matmul(&block.f_tr()?)?)?;
        }
        let mut values = vec![0.0; stored * stored];
        total.f_to_device(Device::Cpu)?.f_copy_data(&mut values, stored * stored)?;
        Ok(values)
    }

    /// w ← `scale`·w + Σ c q_i over `terms` (c, i), then this rank's part of ⟨q_i, w⟩ for every stored
    /// vector in slot order (none unless `full`) and, last, of ‖w‖²: in one pass, piece by piece, since
    /// what takes the time is memory.
    ///
    /// Partial sums of coefficients over blocks are taken in the vectors' precision by matrix-vector
    /// products, and added up in f64.
    ///
    /// # Errors
    /// As libtorch reports.
    pub(crate) fn combine_and_project(
        &self,
        w: &mut Tensor,
        scale: f64,
        terms: &[(f64, usize)],
        full: bool,
    ) -> Result<Vec<f64>, TchError> {
        let _no_grad = tch::no_grad_guard();
        let stored = if full { self.stored() } else { 0 };
        if !full && let Some(squared) = self.combined_at_once(w, scale, terms)? {
            return Ok(vec![squared]);
        }
        let rows = self.rows.f_narrow(0, 0, stored as i64)?;
        let scale = if scale == 1.0 { None } else { Some(number(scale, w)?) };
        let terms = terms
            .iter()
            .map(|&(factor, index)| Ok((number(factor, w)?, self.vector(index)?)))
            .collect::<Result<Vec<_>, TchError>>()?;
        let (mut partial, mut squared) = (Vec::new(), Sums::<1>::new());
        for (start, len) in self.pieces() {
            let mut piece = w.f_narrow(0, start, len)?;
            if let Some(scale) = &scale {
                let _ = piece.f_mul_(scale)?;
            }
            for (factor, vector) in &terms {
                let _ = piece.f_addcmul_(&vector.f_narrow(0, start, len)?, factor)?;
            }
            if start >= self.counted_len {
                continue;
            }
            squared.add_square(&piece)?;
            for (from, len) in cut(0, len, self.at_once(stored, self.block)).filter(|_| full) {
                let block = self.as_vectors(&rows.f_narrow(1, start + from, len)?)?;
                partial.push(block.f_mv(&piece.f_narrow(0, from, len)?)?);
            }
        }
        let mut values = vec![0.0; stored];
        if !partial.is_empty() {
            Tensor::f_stack(&partial, 0)?
                .f_sum_dim_intlist([0_i64].as_slice(), false, Kind::Double)?
                .f_to_device(tch::Device::Cpu)?
                .f_copy_data(&mut values, stored)?;
        }
        values.push(squared.finish()?[0]);
        Ok(values)
    }

    /// w ← `scale`·w + Σ c q_i in one loop, with this rank's part of ‖w‖²; `None` where it cannot be.
    fn combined_at_once(
        &self,
        w: &Tensor,
        scale: f64,
        terms: &[(f64, usize)],
    ) -> Result<Option<f64>, TchError> {
        let (spans, scale) = (spans_of_vectors(self.counted_len, self.local_len), scale as f32);
        let term = |&(factor, index): &(f64, usize)| Ok::<_, TchError>((factor as f32, self.vector(index)?));
        let square = |sum: f32| (sum, [f64::from(sum) * f64::from(sum)]);
        let squared = match terms {
            [one] => {
                let (factor, vector) = term(one)?;
                fused::pass(&spans, [Source::Vector(&vector)], Source::Vector(w), |[q], w| {
                    square(scale * w + factor * q)
                })
            }
            [one, two] => {
                let ((c, first), (d, second)) = (term(one)?, term(two)?);
                let read = [Source::Vector(&first), Source::Vector(&second)];
                fused::pass(&spans, read, Source::Vector(w), |[p, q], w| square(scale * w + c * p + d * q))
            }
            _ => None,
        };
        Ok(squared.map(|[squared]| squared))
    }

    /// w ← w − Σ c_i q_i over every stored vector, `coefficients` in slot order (none: w stays), and, with
    /// `scale`, appends scale·w as the next vector in the same pass.
    ///
    /// # Errors
    /// As libtorch reports.
    pub(crate) fn subtract(
        &mut self,
        w: &mut Tensor,
        coefficients: &[f64],
        scale: Option<f64>,
    ) -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        let next = self.next_row()?;
        if coefficients.is_empty()
            && let Some(scale) = scale
        {
            let (spans, scale) = (spans_of_vectors(self.counted_len, self.local_len), scale as f32);
            if fused::pass(&spans, [Source::Vector(w)], Source::Vector(&next), |[w], _| (scale * w, []))
                .is_some()
            {
                return self.commit();
            }
        }
        let negated: Vec<f64> = coefficients.iter().map(|c| -c).collect();
        let negated = Tensor::f_from_slice(&negated)?.f_to_device(w.device())?.f_to_kind(w.kind())?;
        let scale = scale.map(|scale| number(scale, w)).transpose()?;
        for (start, len) in self.pieces() {
            if !coefficients.is_empty() {
                self.add_combination(w, &negated, (start, len))?;
            }
            if let Some(scale) = &scale {
                // The row may be that of the oldest vector, whose piece has just been used for the last time.
                let _ = w.f_narrow(0, start, len)?.f_mul_out(&next.f_narrow(0, start, len)?, scale)?;
            }
        }
        if scale.is_some() {
            self.commit()?;
        }
        Ok(())
    }

    /// All local entries in pieces `(start, len)`, none of which is counted in part.
    fn pieces(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let size = self.piece;
        cut(0, self.counted_len, size).chain(cut(self.counted_len, self.local_len, size))
    }
}

/// The range `start..end` cut into pieces `(start, len)`.
fn cut(start: i64, end: i64, size: i64) -> impl Iterator<Item = (i64, i64)> {
    (start..end).step_by(size as usize).map(move |start| (start, size.min(end - start)))
}
