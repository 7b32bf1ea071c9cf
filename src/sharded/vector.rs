//! Storage of one rank's entries, and the way between it and the host's tensors.

use crate::sharded::layout::{Layout, Segment};
use tch::{Kind, TchError, Tensor};

/// Entries that a core works on at a time: temporaries of this size stay in its cache, and are small
/// beside any vector worth sharding. It is also the size from which libtorch divides an elementwise
/// operation among threads.
pub const CHUNK_CORE: u64 = 1 << 15;
/// The same on an accelerator, where each operation has a fixed cost.
pub const CHUNK_DEVICE: u64 = 1 << 24;

/// One rank's entries of a vector over all parameters, as one flat tensor in the order of a [`Layout`].
#[derive(Debug)]
pub struct ShardedVector {
    tensor: Tensor,
}

impl ShardedVector {
    /// The zero vector.
    ///
    /// # Errors
    /// When libtorch cannot allocate it.
    pub fn zeros(layout: &Layout) -> Result<Self, TchError> {
        Ok(Self { tensor: Tensor::f_zeros([layout.local_len()], (layout.kind(), layout.device()))? })
    }

    /// A vector that shares the memory of a local tensor.
    pub(crate) fn alias(tensor: &Tensor) -> Self {
        Self { tensor: tensor.shallow_clone() }
    }

    /// The tensor itself: `local_len` entries.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The tensor itself.
    pub(crate) fn into_tensor(self) -> Tensor {
        self.tensor
    }

    /// Copies in what the host's tensors hold, aligned with [`Host::shards`](crate::Host::shards).
    pub(crate) fn gather_from(&mut self, layout: &Layout, tensors: &[Tensor]) -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        for segment in layout.segments() {
            let mut target = self.tensor.f_narrow(0, segment.start, segment.len)?;
            target.f_copy_(&flat(&tensors[segment.shard])?)?;
        }
        Ok(())
    }
}

/// A copy of its own memory, without a graph.
pub(crate) fn copied(tensor: &Tensor) -> Result<Tensor, TchError> {
    let _no_grad = tch::no_grad_guard();
    let source = tensor.f_detach()?;
    let mut target = source.f_empty_like()?;
    target.f_copy_(&source)?;
    Ok(target)
}

/// A one-dimensional view (a copy only where the tensor is not contiguous).
pub(crate) fn flat(tensor: &Tensor) -> Result<Tensor, TchError> {
    tensor.f_detach()?.f_reshape([-1])
}

/// A piece of one segment.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// The position of the shard in the host's order.
    pub(crate) shard: usize,
    /// Where the piece starts in the shard.
    pub(crate) in_shard: i64,
    /// Where the piece starts in local vectors.
    pub(crate) start: i64,
    pub(crate) len: i64,
    /// The global index of its first entry.
    pub(crate) global_offset: u64,
    /// Whether this rank counts its entries in sums.
    pub(crate) counted: bool,
}

impl Chunk {
    /// The piece of a local vector.
    pub(crate) fn of(&self, vector: &Tensor) -> Result<Tensor, TchError> {
        vector.f_narrow(0, self.start, self.len)
    }

    /// The piece of a host tensor, flattened.
    pub(crate) fn of_shard(&self, tensors: &[Tensor]) -> Result<Tensor, TchError> {
        flat(&tensors[self.shard])?.f_narrow(0, self.in_shard, self.len)
    }
}

/// The segments cut into pieces of bounded size.
pub(crate) fn chunks(layout: &Layout) -> impl Iterator<Item = Chunk> + '_ {
    let size = chunk_size(layout);
    layout.segments().iter().flat_map(move |segment: &Segment| {
        let counted = segment.start < layout.counted_len();
        (0..segment.len).step_by(size as usize).map(move |in_shard| Chunk {
            shard: segment.shard,
            in_shard,
            start: segment.start + in_shard,
            len: size.min(segment.len - in_shard),
            global_offset: segment.global_offset + in_shard as u64,
            counted,
        })
    })
}

/// The counted entries of local vectors cut into ranges `(start, len)` of bounded size.
pub(crate) fn counted_ranges(layout: &Layout) -> impl Iterator<Item = (i64, i64)> {
    let (size, end) = (chunk_size(layout), layout.counted_len());
    (0..end).step_by(size as usize).map(move |start| (start, size.min(end - start)))
}

/// Entries worked on at a time.
pub(crate) fn chunk_size(layout: &Layout) -> i64 {
    if layout.device().is_cuda() {
        CHUNK_DEVICE as i64
    } else {
        CHUNK_CORE as i64 * i64::from(tch::get_num_threads().max(1))
    }
}

/// How many [`chunks`] there are.
pub(crate) fn pieces(layout: &Layout) -> u64 {
    let size = chunk_size(layout) as u64;
    layout.segments().iter().map(|segment| (segment.len as u64).div_ceil(size)).sum()
}

/// A number as a tensor: operators that take a `Scalar` cannot report errors in this version of tch.
pub(crate) fn number(value: f64, like: &Tensor) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(&[value])?.f_to_device(like.device())?.f_to_kind(like.kind())
}

/// The wider of two floating-point types, at least f32.
pub(crate) fn wider(a: Kind, b: Kind) -> Kind {
    if a == Kind::Double || b == Kind::Double { Kind::Double } else { Kind::Float }
}
