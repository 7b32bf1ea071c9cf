//! What the law knows of a host: sizes, nothing that has to be measured.

use crate::config::{ProbeConfig, VectorKind};
use crate::error::{Error, Result};
use crate::host::{Host, Precision};
use crate::operator::loan_parts;
use crate::sharded::layout::Layout;
use crate::sharded::vector::{chunk_size, pieces};
use serde::Serialize;

/// Entries that a core works on at a time, and an accelerator.
pub use crate::sharded::vector::{CHUNK_CORE, CHUNK_DEVICE};

/// Beyond these sizes nothing is computed: no model has so many parameters, no group so many ranks.
const MOST_PARAMETERS: u64 = 1 << 60;
const MOST_RANKS: u64 = 1 << 30;

/// One rank's share of a model, and the types in which it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Ranks that share the model, or hold copies of it.
    pub ranks: u64,
    /// Parameters of which this rank holds values.
    pub entries: u64,
    /// Of these, those that it counts in sums: all, unless another rank counts a copy.
    pub counted: u64,
    /// Bytes of θ on this rank, as it is perturbed.
    pub parameters: u64,
    /// Bytes of the copy that is taken of it: none where the host keeps its [sources](Host::sources).
    pub saved: u64,
    /// Bytes of what the host holds in f32 besides, for [`Precision::Full`] of narrower parameters.
    pub host_copies: u64,
    /// Bytes of gradients that the loop still needs.
    pub live_gradients: u64,
    /// Bytes of one entry of a Lanczos vector: 4 or 8.
    pub vector_width: u64,
    /// Pieces in which a pass over all entries is done: at most so many entries each, and none of two parameters.
    pub pieces: u64,
    /// Entries of a piece, at most.
    pub piece: u64,
    /// Whether parameters are on an accelerator, so that a basis on the CPU is elsewhere.
    pub accelerated: bool,
}

impl Facts {
    /// Those of a host, on this rank.
    #[must_use]
    pub fn of(host: &dyn Host, layout: &Layout, config: &ProbeConfig) -> Self {
        let loan = loan_parts(host, config.hvp.precision);
        let entries = layout.local_len() as u64;
        Self {
            ranks: host.group().world_size() as u64,
            entries,
            counted: layout.counted_len() as u64,
            parameters: loan.parameters,
            saved: loan.saved,
            host_copies: loan.host_copies,
            live_gradients: loan.live_gradients,
            vector_width: layout.vector_bytes() / entries.max(1),
            pieces: pieces(layout),
            piece: (chunk_size(layout) as u64).min(entries),
            accelerated: layout.device() != tch::Device::Cpu,
        }
    }

    /// Those of the rank with the largest share of a model that is held as `types` say, `tensors` slices of parameters on
    /// each rank.
    ///
    /// # Errors
    /// [`Error::Config`] where there are no ranks, no parameters, or more than there can be.
    pub fn planned(parameters: u64, entries: u64, ranks: u64, tensors: u64, types: Types) -> Result<Self> {
        if ranks == 0 || ranks > MOST_RANKS {
            return Err(Error::config("plan.ranks", format!("{ranks} ranks; 1 to 2^30 are possible")));
        }
        if parameters == 0 || parameters > MOST_PARAMETERS {
            let reason = format!("{parameters} parameters; 1 to 2^60 are possible");
            return Err(Error::config("plan.parameters", reason));
        }
        if entries == 0 || entries > parameters {
            let reason = format!("a rank holds {entries} of {parameters} parameters");
            return Err(Error::config("plan.entries", reason));
        }
        let narrow = types.parameter_width < 4;
        let full = narrow && types.precision == Precision::Full;
        let width = if full { 4 } else { types.parameter_width };
        let piece =
            if types.accelerated { CHUNK_DEVICE } else { CHUNK_CORE.saturating_mul(types.threads.max(1)) };
        let vector_width = match types.vectors {
            Some(VectorKind::F64) => 8,
            None if types.parameter_width == 8 => 8,
            Some(VectorKind::F32) | None => 4,
        };
        Ok(Self {
            ranks,
            entries,
            counted: entries,
            parameters: entries * width,
            // The narrower ones stay as they are beside those copies.
            saved: if full { 0 } else { entries * width },
            // The parameters and their gradient.
            host_copies: if full { 8 * entries } else { 0 },
            live_gradients: 0,
            vector_width,
            // A tensor's last piece is a short one.
            pieces: entries.div_ceil(piece).saturating_add(tensors.saturating_sub(1)),
            piece: piece.min(entries),
            accelerated: types.accelerated,
        })
    }

    /// Bytes of one vector.
    #[must_use]
    pub fn vector(&self) -> u64 {
        self.entries.saturating_mul(self.vector_width)
    }
}

/// The types in which a model is held, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types {
    /// Bytes of a parameter of which θ₀ is a copy: 2, 4 or 8. With f32 masters that is 4, whatever is computed in.
    pub parameter_width: u64,
    /// `slq.dtype`.
    pub vectors: Option<VectorKind>,
    /// `hvp.precision`.
    pub precision: Precision,
    /// Whether it is on an accelerator.
    pub accelerated: bool,
    /// Threads of libtorch on each rank, where it is not.
    pub threads: u64,
}

impl Default for Types {
    /// f32 on one core.
    fn default() -> Self {
        Self { parameter_width: 4, vectors: None, precision: Precision::Loop, accelerated: false, threads: 1 }
    }
}

/// The law's numbers, which may be too large for 64 bits.
pub(super) fn bytes(value: u128, what: &str) -> Result<u64> {
    let most = || Error::config("plan", format!("{what}: more bytes than 64 bits can count"));
    u64::try_from(value).map_err(|_| most())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_nobody_means_are_planned_with_all_the_same() {
        let types = Types { threads: u64::MAX / CHUNK_CORE + 1, ..Types::default() };
        let facts = Facts::planned(1000, 1000, 1, u64::MAX, types).unwrap();
        assert_eq!((facts.piece, facts.pieces), (1000, u64::MAX));
    }
}
