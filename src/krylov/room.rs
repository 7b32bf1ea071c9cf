//! What a basis has room for: known before anything is allocated.

use crate::config::{BasisConfig, BasisDevice, BasisKind, Reorthogonalize};
use tch::Kind;

/// What is converted at a time of rows of another type, or from elsewhere, is as much as pieces of so many: however many rows
/// there are.
pub(crate) const CONVERTED: usize = 8;

/// How many vectors a basis has room for, and of how many bytes an entry: what it allocates, and what the
/// [law](crate::cost::Memory) counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) capacity: usize,
    /// Bytes of a stored entry.
    pub(crate) width: u64,
    /// Whether the last two vectors are kept as they are besides, since what is stored is of another type or elsewhere.
    pub(crate) apart: bool,
}

impl Room {
    /// For vectors of `width` bytes an entry, `accelerated` where they are not in the CPU's memory.
    pub(crate) fn new(
        reorthogonalize: Reorthogonalize,
        steps: usize,
        config: BasisConfig,
        width: u64,
        accelerated: bool,
    ) -> Self {
        let stored = config.dtype.map_or(width, |dtype| dtype.kind().elt_size_in_bytes() as u64);
        let moved = accelerated && config.device == Some(BasisDevice::Cpu);
        // Without reorthogonalisation only the recurrence's own vectors are there.
        let apart = reorthogonalize != Reorthogonalize::None && (stored != width || moved);
        let capacity = reorthogonalize.basis_vectors(steps);
        Self { capacity, width: if apart { stored } else { width }, apart }
    }
}

impl BasisKind {
    /// libtorch's name of it.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Bf16 => Kind::BFloat16,
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
        }
    }
}
