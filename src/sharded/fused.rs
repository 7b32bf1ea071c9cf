//! Passes over a rank's entries in one loop each, where all that a pass writes is f32 in the CPU's memory, and all that it reads
//! is that or bf16.
//!
//! Out of libtorch's operations a pass with sums in f64 takes ten, and goes through the cache as often. One loop goes through
//! memory once, in the time of a copy of as many bytes. Whatever is of another type, on a device, or not contiguous takes
//! the operations: [`pass`] then returns `None` and has touched nothing.
//!
//! Entries are computed one by one, and sums of pieces of a fixed size added up in their order: results depend neither on
//! the number of threads nor on the processor.

use crate::sharded::layout::{Layout, Segment};
use parking_lot::Mutex;
use std::ops::Range;
use std::thread;
use tch::{Device, Kind, Tensor};

/// Entries whose sums are taken together.
const PIECE: usize = 1 << 15;
/// Entries that are computed side by side: sums of as many are independent of each other, so that they are one
/// instruction's.
const LANES: usize = 16;
/// Entries for which a thread is worth its start.
const ENTRIES_OF_A_THREAD: usize = 1 << 18;

/// A range of local vectors, all of it counted in sums or none of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The position of the shard in the host's order, of which it is the whole.
    shard: usize,
    start: usize,
    len: usize,
    counted: bool,
}

/// All local entries, shard by shard.
pub(crate) fn spans(layout: &Layout) -> Vec<Span> {
    let span = |segment: &Segment| Span {
        shard: segment.shard,
        start: segment.start as usize,
        len: segment.len as usize,
        counted: segment.start < layout.counted_len(),
    };
    layout.segments().iter().map(span).collect()
}

/// All entries of local vectors, of which the first `counted` are counted.
pub(crate) fn spans_of_vectors(counted: i64, len: i64) -> [Span; 2] {
    let span = |range: Range<i64>, counted| Span {
        shard: 0,
        start: range.start as usize,
        len: (range.end - range.start) as usize,
        counted,
    };
    [span(0..counted, true), span(counted..len, false)]
}

/// Where a pass finds its entries.
#[derive(Clone, Copy)]
pub(crate) enum Source<'t> {
    /// One tensor for each shard.
    Shards(&'t [Tensor]),
    /// A local vector.
    Vector(&'t Tensor),
}

/// The first of a span's entries in memory.
#[derive(Clone, Copy)]
enum First {
    Single(*mut f32),
    /// The upper halves of f32.
    Brain(*const u16),
}

impl Source<'_> {
    /// Where a span's entries start.
    fn entries(&self, span: Span) -> Option<First> {
        let (tensor, range) = match self {
            Self::Shards(tensors) => (tensors.get(span.shard)?, 0..span.len),
            Self::Vector(tensor) => (*tensor, span.start..span.start + span.len),
        };
        let plain = tensor.device() == Device::Cpu
            && !tensor.is_sparse()
            && !tensor.is_mkldnn()
            && tensor.is_contiguous()
            && range.end <= tensor.numel();
        let kind = tensor.f_kind().ok().filter(|_| plain)?;
        // SAFETY: the memory of a contiguous tensor has `numel` entries of its type, and the range lies within.
        match kind {
            Kind::Float => Some(First::Single(unsafe { tensor.data_ptr().cast::<f32>().add(range.start) })),
            Kind::BFloat16 => {
                Some(First::Brain(unsafe { tensor.data_ptr().cast::<u16>().cast_const().add(range.start) }))
            }
            _ => None,
        }
    }
}

impl First {
    /// The bytes of `len` entries.
    fn range(self, len: usize) -> Range<usize> {
        let (start, width) = match self {
            Self::Single(start) => (start.addr(), size_of::<f32>()),
            Self::Brain(start) => (start.addr(), size_of::<u16>()),
        };
        start..start + len * width
    }

    /// Entries from `start` on.
    ///
    /// # Safety
    /// They are those of a tensor that is borrowed for 't, and nobody writes to them meanwhile.
    unsafe fn slice<'t>(self, start: usize, len: usize) -> Entries<'t> {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                Self::Single(first) => Entries::Single(std::slice::from_raw_parts(first.add(start), len)),
                Self::Brain(first) => Entries::Brain(std::slice::from_raw_parts(first.add(start), len)),
            }
        }
    }
}

/// A piece that is read.
#[derive(Clone, Copy)]
enum Entries<'t> {
    Single(&'t [f32]),
    Brain(&'t [u16]),
}

impl Entries<'_> {
    /// As f32, which every bf16 is, in `room` where they have to be converted.
    fn single<'a>(&'a self, room: &'a mut Vec<f32>) -> &'a [f32] {
        match self {
            Self::Single(entries) => entries,
            Self::Brain(halves) => {
                room.clear();
                room.extend(halves.iter().map(|&half| f32::from_bits(u32::from(half) << 16)));
                room
            }
        }
    }
}

/// A piece of a span.
struct Piece<'t, const R: usize> {
    read: [Entries<'t>; R],
    written: &'t mut [f32],
    counted: bool,
}

/// For each entry, `entry` makes of those `read`, and of the one that is there, the one that is `written`, and what it adds
/// to K sums. Returns the sums over counted entries; `None`, with nothing touched, where this is no case for such a loop.
///
/// Nobody else may use the tensors meanwhile.
pub(crate) fn pass<const R: usize, const K: usize>(
    spans: &[Span],
    read: [Source<'_>; R],
    written: Source<'_>,
    entry: impl Fn([f32; R], f32) -> (f32, [f64; K]) + Sync,
) -> Option<[f64; K]> {
    let pieces = pieces(spans, read, written)?;
    Some(sums(pieces, usize::try_from(tch::get_num_threads()).unwrap_or(1), &entry))
}

/// The spans cut into pieces.
fn pieces<'t, const R: usize>(
    spans: &[Span],
    read: [Source<'t>; R],
    written: Source<'t>,
) -> Option<Vec<Piece<'t, R>>> {
    let mut found = Vec::with_capacity(spans.len());
    let mut memory = Vec::new();
    for &span in spans.iter().filter(|span| span.len > 0) {
        let First::Single(target) = written.entries(span)? else { return None };
        memory.push((First::Single(target).range(span.len), true));
        let mut of_it = [First::Single(target); R];
        for (first, source) in of_it.iter_mut().zip(&read) {
            *first = source.entries(span)?;
            memory.push((first.range(span.len), false));
        }
        found.push((span, of_it, target));
    }
    if !is_disjoint(memory) {
        return None;
    }
    let mut pieces = Vec::new();
    for (span, read, written) in found {
        for start in (0..span.len).step_by(PIECE) {
            let len = PIECE.min(span.len - start);
            // SAFETY: these are `span.len` entries of tensors that are borrowed for 't; what is written overlaps nothing else,
            // by the check above, and pieces of a span do not overlap.
            let (read, written) = unsafe {
                let read = read.map(|first| first.slice(start, len));
                (read, std::slice::from_raw_parts_mut(written.add(start), len))
            };
            pieces.push(Piece { read, written, counted: span.counted });
        }
    }
    Some(pieces)
}

/// Whether ranges that are written overlap no other.
fn is_disjoint(mut memory: Vec<(Range<usize>, bool)>) -> bool {
    memory.sort_unstable_by_key(|(range, _)| range.start);
    let (mut end, mut end_of_written) = (0, 0);
    memory.into_iter().all(|(range, written)| {
        let apart = range.start >= if written { end } else { end_of_written };
        end = end.max(range.end);
        if written {
            end_of_written = end_of_written.max(range.end);
        }
        apart
    })
}

/// Computes all pieces, divided among threads. A piece that is not counted adds nothing.
fn sums<const R: usize, const K: usize>(
    pieces: Vec<Piece<'_, R>>,
    threads: usize,
    entry: &(impl Fn([f32; R], f32) -> (f32, [f64; K]) + Sync),
) -> [f64; K] {
    let mut pieces: Vec<(Piece<'_, R>, [f64; K])> =
        pieces.into_iter().map(|piece| (piece, [0.0; K])).collect();
    let threads = threads.min(pieces.len() * PIECE / ENTRIES_OF_A_THREAD);
    let queue = Mutex::new(pieces.iter_mut());
    let work = || {
        let mut rooms = [const { Vec::new() }; R];
        loop {
            let next = queue.lock().next();
            let Some((piece, sums)) = next else { break };
            let mut read = [&[][..]; R];
            for ((read, entries), room) in read.iter_mut().zip(&piece.read).zip(&mut rooms) {
                *read = entries.single(room);
            }
            let found = computed(&read, piece.written, entry);
            if piece.counted {
                *sums = found;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // What a thread that the system has none for would have done is left to the others.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut total = [0.0; K];
    for (_, sums) in pieces {
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    total
}

/// Computes a piece, with the widest instructions there are; rounding is the same with all of them.
fn computed<const R: usize, const K: usize>(
    read: &[&[f32]; R],
    written: &mut [f32],
    entry: &impl Fn([f32; R], f32) -> (f32, [f64; K]),
) -> [f64; K] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { with_avx2(read, written, entry) };
    }
    in_lanes(read, written, entry)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<const R: usize, const K: usize>(
    read: &[&[f32]; R],
    written: &mut [f32],
    entry: &impl Fn([f32; R], f32) -> (f32, [f64; K]),
) -> [f64; K] {
    in_lanes(read, written, entry)
}

/// Inlined, so that it is compiled for what its caller is.
#[inline(always)]
fn in_lanes<const R: usize, const K: usize>(
    read: &[&[f32]; R],
    written: &mut [f32],
    entry: &impl Fn([f32; R], f32) -> (f32, [f64; K]),
) -> [f64; K] {
    let (blocks, rest) = written.as_chunks_mut::<LANES>();
    // As long as what is written: indices below are known to be within.
    let aligned = read.map(|entries| &entries.as_chunks::<LANES>().0[..blocks.len()]);
    let mut lanes = [[0.0; LANES]; K];
    for (at, block) in blocks.iter_mut().enumerate() {
        for lane in 0..LANES {
            let (value, terms) = entry(std::array::from_fn(|r| aligned[r][at][lane]), block[lane]);
            block[lane] = value;
            for k in 0..K {
                lanes[k][lane] += terms[k];
            }
        }
    }
    let mut sums = lanes.map(|lanes| lanes.iter().sum::<f64>());
    let done = blocks.len() * LANES;
    for (at, value) in rest.iter_mut().enumerate() {
        let (new, terms) = entry(read.map(|entries| entries[done + at]), *value);
        *value = new;
        for k in 0..K {
            sums[k] += terms[k];
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: impl IntoIterator<Item = f32>) -> Tensor {
        Tensor::from_slice(&values.into_iter().collect::<Vec<f32>>())
    }

    fn wave(len: usize, speed: f32) -> Tensor {
        tensor((0..len).map(|at| (at as f32 * speed).sin()))
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(tensor).unwrap()
    }

    /// w ← a − b, with ‖w‖² and the sum of what w was.
    fn subtract([a, b]: [f32; 2], was: f32) -> (f32, [f64; 2]) {
        let difference = a - b;
        (difference, [f64::from(difference).powi(2), f64::from(was)])
    }

    #[test]
    fn a_pass_writes_every_entry_and_sums_those_that_are_counted() {
        // Pieces and lanes that are not full, a shard in two places, one that is empty.
        let lens = [PIECE + 21, 0, 5, 3 * PIECE];
        let counted = lens[0] + lens[2];
        let mut spans = Vec::new();
        let mut start = 0;
        for (shard, len) in lens.into_iter().enumerate() {
            spans.push(Span { shard, start, len, counted: start < counted });
            start += len;
        }
        let shards: Vec<Tensor> = lens.map(|len| wave(len, 0.37)).into();
        let (b, w) = (wave(start, 0.11), wave(start, 0.05));
        let (a, before) = (values(&Tensor::cat(&shards, 0)), values(&w));
        let read = [Source::Shards(&shards), Source::Vector(&b)];
        let sums = pass(&spans, read, Source::Vector(&w), subtract).unwrap();
        let expected: Vec<f32> = a.iter().zip(values(&b)).map(|(a, b)| a - b).collect();
        assert_eq!(values(&w), expected);
        let square: f64 = expected[..counted].iter().map(|&value| f64::from(value).powi(2)).sum();
        let sum: f64 = before[..counted].iter().map(|&value| f64::from(value)).sum();
        assert!((sums[0] / square - 1.0).abs() < 1e-13, "{} {square}", sums[0]);
        assert!((sums[1] - sum).abs() < 1e-13 * counted as f64, "{} {sum}", sums[1]);
    }

    #[test]
    fn what_is_read_may_be_bf16() {
        let len = PIECE + 19;
        let spans = spans_of_vectors(len as i64, len as i64);
        let narrow = wave(len, 0.37).to_kind(Kind::BFloat16);
        let (wide, b) = (narrow.to_kind(Kind::Float), wave(len, 0.11));
        let of = |a: &Tensor| {
            let w = wave(len, 0.05);
            let sums = pass(&spans, [a, &b].map(Source::Vector), Source::Vector(&w), subtract).unwrap();
            (values(&w), sums.map(f64::to_bits))
        };
        assert!(of(&narrow) == of(&wide));
    }

    #[test]
    fn neither_threads_nor_the_width_of_instructions_change_a_bit() {
        let len = 5 * ENTRIES_OF_A_THREAD + 77;
        let (a, b) = (wave(len, 0.37), wave(len, 0.11));
        let spans = spans_of_vectors(len as i64 - 9, len as i64);
        let of = |threads| {
            let w = wave(len, 0.05);
            let pieces = pieces(&spans, [Source::Vector(&a), Source::Vector(&b)], Source::Vector(&w));
            let sums = sums(pieces.unwrap(), threads, &subtract);
            (values(&w), sums.map(f64::to_bits))
        };
        let one = of(1);
        assert!(one == of(3) && one == of(64));
        let (a, b) = (&values(&a)[..PIECE + 3], &values(&b)[..PIECE + 3]);
        let (mut wide, mut narrow) = (vec![1.0; PIECE + 3], vec![1.0; PIECE + 3]);
        let sums = [
            computed(&[a, b], &mut wide, &subtract).map(f64::to_bits),
            in_lanes(&[a, b], &mut narrow, &subtract).map(f64::to_bits),
        ];
        assert!(sums[0] == sums[1] && wide == narrow);
    }

    #[test]
    fn what_is_no_f32_in_one_piece_or_overlaps_is_left_alone() {
        let spans = spans_of_vectors(6, 8);
        let (a, b) = (wave(16, 0.3), wave(16, 0.1));
        let vector = |tensor: &Tensor| tensor.narrow(0, 0, 8);
        let (w, even) = (wave(8, 0.7), a.view([8, 2]).select(1, 0));
        let before = values(&a);
        let may = |read: [&Tensor; 2], written: &Tensor| {
            let read = read.map(Source::Vector);
            pass(&spans, read, Source::Vector(written), |[a, _], _| (a + 1.0, [])).is_some()
        };
        assert!(may([&vector(&a), &vector(&b)], &w), "to begin with");
        assert!(may([&vector(&a), &vector(&a)], &w), "what is only read may be the same");
        assert!(!may([&vector(&a).to_kind(Kind::Double), &vector(&b)], &w), "f64");
        assert!(!may([&vector(&a).to_kind(Kind::Half), &vector(&b)], &w), "f16");
        assert!(!may([&vector(&a), &vector(&b)], &w.to_kind(Kind::BFloat16)), "bf16 that is written");
        assert!(!may([&even, &vector(&b)], &w), "every other entry");
        assert!(!may([&a.narrow(0, 0, 7), &vector(&b)], &w), "too short");
        assert!(!may([&vector(&a), &vector(&b)], &a.narrow(0, 4, 8)), "overlapping");
        assert!(!may([&a.narrow(0, 0, 8).to_sparse_sparse_dim(1), &vector(&b)], &w), "sparse");
        let shards = [vector(&a)];
        assert!(pass(&[], [Source::Shards(&shards)], Source::Vector(&w), |[a], _| (a, [])).is_some());
        let missing = [Span { shard: 1, start: 0, len: 8, counted: true }];
        assert!(pass(&missing, [Source::Shards(&shards)], Source::Vector(&w), |[a], _| (a, [])).is_none());
        assert_eq!(values(&a), before);
    }
}
