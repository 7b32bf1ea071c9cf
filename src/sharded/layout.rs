//! Which global index lives where.

use crate::config::VectorKind;
use crate::error::{Error, Result};
use crate::hash::{as_f64, fnv1a};
use crate::host::{Host, Shard};
use crate::sharded::ranks::Ranks;
use tch::{Device, Kind};

/// A contiguous range of global indices on this rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The position of the shard in [`Host::shards`].
    pub shard: usize,
    /// Where the range starts in this rank's local vectors.
    pub start: i64,
    /// Its length.
    pub len: i64,
    /// The global index of its first entry.
    pub global_offset: u64,
}

/// How the n global entries of a vector are spread over ranks: each rank stores its segments one
/// behind the other, those that it counts in sums first, copies that another rank counts last.
#[derive(Clone, Debug)]
pub struct Layout {
    segments: Vec<Segment>,
    names: Vec<String>,
    local_len: i64,
    counted_len: i64,
    parameters: u64,
    device: Device,
    kind: Kind,
    unit_roundoff: f64,
}

/// A prime below 2³¹: index sums are compared modulo it, so that they stay exact in f64.
const CHECK_PRIME: u64 = 2_147_483_629;

impl Layout {
    /// Describes the host's shards and checks, together with all other ranks, that they partition the
    /// global indices `0..n`. Collective.
    ///
    /// # Errors
    /// [`Error::Layout`] for tensors that are not contiguous, not floating-point or on several
    /// devices; for indices that are missing or owned twice; for names that differ between ranks.
    pub fn new(host: &dyn Host, dtype: Option<VectorKind>) -> Result<Self> {
        let mut ranks = Ranks::new(host);
        let during = "describing the shards";
        let shards = host.shards();
        let described = Self::describe(&shards, dtype, ranks.rank());
        let mut layout = ranks.agree(host, during, described)?;
        let sums = ranks.sum(host, during, 2, Ok(layout.checks()))?;
        layout.parameters = sums[0] as u64;
        let names = shards.iter().flat_map(|shard| shard.name.bytes().chain([0]));
        let names = as_f64(fnv1a(names));
        let names_differ = ranks.differs(host, during, names)?;
        let ends = ranks.max(host, during, &[layout.last_index() as f64])?;
        layout.verify(&sums, ends[0] as u64, names_differ, ranks.rank())?;
        Ok(layout)
    }

    fn describe(shards: &[Shard], dtype: Option<VectorKind>, rank: usize) -> Result<Self> {
        let misfit = |name: &str, reason: String| Error::Layout { rank, parameter: name.to_owned(), reason };
        let first = shards.first().ok_or_else(|| misfit("*", "the host lends no parameters".into()))?;
        let device = first.tensor.device();
        let mut roundoff = 0.0_f64;
        let mut any_double = false;
        for shard in shards {
            let kind = shard.tensor.kind();
            let unit = unit_roundoff(kind).ok_or_else(|| {
                misfit(&shard.name, format!("{kind:?} parameters cannot be differentiated"))
            })?;
            roundoff = roundoff.max(unit);
            any_double |= kind == Kind::Double;
            if !shard.tensor.is_contiguous() {
                return Err(misfit(&shard.name, "the lent tensor is not contiguous".into()));
            }
            if shard.tensor.device() != device {
                return Err(misfit(
                    &shard.name,
                    format!(
                        "is on {:?}, others are on {device:?}; all must be on one device",
                        shard.tensor.device()
                    ),
                ));
            }
        }
        let kind = match dtype {
            Some(VectorKind::F64) => Kind::Double,
            None if any_double => Kind::Double,
            Some(VectorKind::F32) | None => Kind::Float,
        };
        let counted = |shard: &Shard| !shard.replicated || rank == 0;
        let mut segments = Vec::with_capacity(shards.len());
        let mut start = 0;
        let mut counted_len = 0;
        for pass in [true, false] {
            for (index, shard) in shards.iter().enumerate().filter(|(_, shard)| counted(shard) == pass) {
                let len = shard.tensor.numel() as i64;
                if len > 0 {
                    segments.push(Segment { shard: index, start, len, global_offset: shard.global_offset });
                    start += len;
                }
            }
            if pass {
                counted_len = start;
            }
        }
        Ok(Self {
            segments,
            names: shards.iter().map(|shard| shard.name.clone()).collect(),
            local_len: start,
            counted_len,
            parameters: 0,
            device,
            kind,
            unit_roundoff: roundoff,
        })
    }

    /// This rank's share of what all ranks compare: the number of entries, and the sum of their
    /// indices modulo a prime.
    fn checks(&self) -> Vec<f64> {
        let mut index_sum = 0_u64;
        for segment in self.segments.iter().filter(|segment| segment.start < self.counted_len) {
            let (offset, len) = (segment.global_offset, segment.len as u64);
            index_sum = (index_sum + range_sum(offset, len)) % CHECK_PRIME;
        }
        vec![self.counted_len as f64, index_sum as f64]
    }

    fn last_index(&self) -> u64 {
        self.segments.iter().map(|segment| segment.global_offset + segment.len as u64).max().unwrap_or(0)
    }

    fn verify(&self, sums: &[f64], end: u64, names_differ: bool, rank: usize) -> Result<()> {
        let error = |reason: String| Error::Layout { rank, parameter: "*".into(), reason };
        if names_differ {
            return Err(error("ranks describe different parameters, or in a different order".into()));
        }
        if end != self.parameters || sums[1] as u64 % CHECK_PRIME != range_sum(0, self.parameters) {
            return Err(error(format!(
                "the ranks' slices do not partition the indices 0..{}: {} entries are lent in all \
                 (is `global_offset` counted without padding, are whole copies marked `replicated`?)",
                end, self.parameters
            )));
        }
        Ok(())
    }

    /// The layout of vectors over the parameters of some shards only, `parameters` of them over all ranks: the
    /// same segments with what lies between them left out.
    pub(crate) fn restricted(&self, parameters: u64, keep: impl Fn(usize) -> bool) -> Self {
        let mut restricted = Self {
            segments: Vec::new(),
            names: Vec::new(),
            local_len: 0,
            counted_len: 0,
            parameters,
            device: self.device,
            kind: self.kind,
            unit_roundoff: self.unit_roundoff,
        };
        for segment in self.segments.iter().filter(|segment| keep(segment.shard)) {
            restricted.segments.push(Segment { start: restricted.local_len, ..segment.clone() });
            restricted.local_len += segment.len;
            // Segments that are counted come first, here as there.
            if segment.start < self.counted_len {
                restricted.counted_len = restricted.local_len;
            }
        }
        restricted
    }

    /// Whether `shards` still are what the layout describes.
    pub(crate) fn matches(&self, shards: &[Shard]) -> bool {
        shards.len() == self.names.len()
            && self.segments.iter().all(|segment| {
                shards.get(segment.shard).is_some_and(|shard| {
                    shard.tensor.numel() as i64 == segment.len && shard.global_offset == segment.global_offset
                })
            })
    }

    /// n, the number of entries over all ranks, each counted once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// This rank's segments, in local order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The parameters' names, in the host's order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Entries stored on this rank.
    #[must_use]
    pub fn local_len(&self) -> i64 {
        self.local_len
    }

    /// Entries that this rank counts in sums: the first so many of the local ones.
    #[must_use]
    pub fn counted_len(&self) -> i64 {
        self.counted_len
    }

    /// Where the shards are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// The type of vectors.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The unit roundoff of vectors.
    #[must_use]
    pub fn vector_roundoff(&self) -> f64 {
        if self.kind == Kind::Double { f64::EPSILON / 2.0 } else { f64::from(f32::EPSILON) / 2.0 }
    }

    /// The unit roundoff of the least precise parameter.
    #[must_use]
    pub fn parameter_roundoff(&self) -> f64 {
        self.unit_roundoff
    }

    /// Bytes of one vector on this rank.
    #[must_use]
    pub fn vector_bytes(&self) -> u64 {
        self.local_len as u64 * if self.kind == Kind::Double { 8 } else { 4 }
    }
}

/// Half the distance from 1 to the next number of that type.
pub(crate) fn unit_roundoff(kind: Kind) -> Option<f64> {
    match kind {
        Kind::Double => Some(f64::EPSILON / 2.0),
        Kind::Float => Some(f64::from(f32::EPSILON) / 2.0),
        Kind::Half => Some(2.0_f64.powi(-11)),
        Kind::BFloat16 => Some(2.0_f64.powi(-8)),
        _ => None,
    }
}

/// Σ of `offset..offset + len`, modulo [`CHECK_PRIME`].
fn range_sum(offset: u64, len: u64) -> u64 {
    let prime = u128::from(CHECK_PRIME);
    let (offset, len) = (u128::from(offset), u128::from(len));
    let triangle = len * len.saturating_sub(1) / 2;
    ((offset % prime * (len % prime) + triangle % prime) % prime) as u64
}
