//! What a probe allocates on a rank.
//!
//! | part | bytes |
//! |---|---|
//! | θ₀, live gradients | as the host holds them; no θ₀ where the host keeps its [sources](crate::Host::sources) |
//! | the host's copies | of parameters and gradients in f32, under `hvp.precision = "full"` of narrower ones |
//! | g(θ₀), one vector of work | a vector each: 4 bytes an entry, 8 for f64 |
//! | the preconditioned operator; an update that is lent | a vector each, where asked for |
//! | tracking | the vector that it starts from, and the one that takes its place, where the basis has all that it is made of |
//! | basis | m vectors, r with a window of r, 2 without reorthogonalisation; in `slq.basis.dtype` |
//! | recent | the last two vectors as they are, where the basis is of another type or elsewhere |
//! | outliers | `slq.deflate` vectors, at most m − 1 |
//! | blocks | what their comparison takes, in the place of the last three |
//! | pieces | temporaries of a pass, whose size does not grow with the model: not counted in [`total`](Memory::total) |

use super::facts::{Facts, bytes};
use crate::config::{BasisDevice, ProbeConfig};
use crate::error::Result;
use crate::krylov::room::{CONVERTED, Room};
use serde::Serialize;

/// Temporaries of a pass in bytes for each entry of a piece, at most: two rows of f64, a vector in f64 and three of the
/// vectors' own type.
const PIECE_FIXED: u64 = 24;
const PIECE_VECTORS: u64 = 3;

/// Bytes on one rank, part by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// θ₀.
    pub saved_parameters: u64,
    /// What the host holds in f32 for [`Precision::Full`](crate::Precision::Full) of narrower parameters.
    pub host_copies: u64,
    /// Copies of gradients that the loop still needs.
    pub live_gradients: u64,
    /// g(θ₀).
    pub gradient: u64,
    /// The vector of work.
    pub work: u64,
    /// The vector of the preconditioned operator, and an update that is lent.
    pub optional: u64,
    /// The vector that tracking starts from, and the one that is to take its place.
    pub tracking: u64,
    /// The stored Lanczos vectors.
    pub basis: u64,
    /// The last two of them beside it.
    pub recent: u64,
    /// Deflated outliers.
    pub outliers: u64,
    /// The comparison with diagonal blocks.
    pub blocks: u64,
    /// Of `basis`, what is in the CPU's memory while parameters are on an accelerator.
    pub elsewhere: u64,
    /// Temporaries, at most.
    pub pieces: u64,
}

impl Memory {
    /// The law. `blocks` is what the comparison with diagonal blocks takes, or 0.
    ///
    /// # Errors
    /// Where a number does not fit into 64 bits.
    pub fn new(facts: &Facts, config: &ProbeConfig, blocks: u64) -> Result<Self> {
        let slq = &config.slq;
        let vector = u128::from(facts.entries) * u128::from(facts.vector_width);
        let room =
            Room::new(slq.reorthogonalize, slq.steps, slq.basis, facts.vector_width, facts.accelerated);
        let stored = room.capacity as u128 * u128::from(facts.entries) * u128::from(room.width);
        let basis = bytes(stored, "the Lanczos basis")?;
        // A basis has two rows at least.
        let outliers = match slq.deflate.min(slq.steps.saturating_sub(1)) {
            0 => 0,
            count => count.max(2) as u128,
        };
        let optional = u128::from(!slq.operator.is_hessian()) + u128::from(config.directions.update);
        // A Ritz vector is made of all vectors of a run, and one of the whole Hessian.
        let next = room.capacity >= slq.steps && (slq.deflate == 0 || !slq.operator.is_hessian());
        let tracking = config.track.every.map_or(0, |_| 1 + u128::from(next));
        // Rows of another type are converted piece by piece, and some of them at a time.
        let together = room.capacity.min(CONVERTED) as u128;
        let converted = if room.apart { together * u128::from(facts.vector_width) } else { 0 };
        let piece = u128::from(PIECE_FIXED + PIECE_VECTORS * facts.vector_width) + converted;
        let memory = Self {
            saved_parameters: facts.saved,
            host_copies: facts.host_copies,
            live_gradients: facts.live_gradients,
            gradient: bytes(vector, "a vector")?,
            work: bytes(vector, "a vector")?,
            optional: bytes(optional * vector, "a vector")?,
            tracking: bytes(tracking * vector, "what is tracked")?,
            basis,
            recent: if room.apart { bytes(2 * vector, "two vectors")? } else { 0 },
            outliers: bytes(outliers * vector, "the outliers")?,
            blocks,
            elsewhere: if facts.accelerated && slq.basis.device == Some(BasisDevice::Cpu) && room.apart {
                basis
            } else {
                0
            },
            pieces: bytes(piece * u128::from(facts.piece), "temporaries")?,
        };
        memory.checked_total()?;
        Ok(memory)
    }

    fn checked_total(&self) -> Result<u64> {
        let parts = [
            self.saved_parameters,
            self.host_copies,
            self.live_gradients,
            self.gradient,
            self.work,
            self.optional,
            self.tracking,
        ];
        let krylov = [self.basis, self.recent, self.outliers].map(u128::from).iter().sum::<u128>();
        let sum = parts.map(u128::from).iter().sum::<u128>() + krylov.max(u128::from(self.blocks));
        bytes(sum + u128::from(self.pieces), "a probe").map(|_| sum as u64)
    }

    /// All vectors: what [`budget.max_memory`](crate::budget::BudgetConfig) limits.
    #[must_use]
    pub fn total(&self) -> u64 {
        // It was checked to fit.
        self.checked_total().unwrap_or(u64::MAX)
    }

    /// All vectors that are where the parameters are, and temporaries at their most.
    #[must_use]
    pub fn on_device(&self) -> u64 {
        self.total().saturating_sub(self.elsewhere).saturating_add(self.pieces)
    }

    /// What a snapshot tells as [`basis_bytes`](crate::spectrum::Cost::basis_bytes).
    #[must_use]
    pub fn basis_bytes(&self) -> u64 {
        (self.basis + self.recent + self.outliers).max(self.blocks)
    }

    /// What it tells as [`vector_bytes`](crate::spectrum::Cost::vector_bytes): all other vectors of the probe's own.
    #[must_use]
    pub fn vector_bytes(&self) -> u64 {
        self.saved_parameters
            + self.live_gradients
            + self.gradient
            + self.work
            + self.optional
            + self.tracking
    }

    /// Each part with its name; what is 0 is left out.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let parts = [
            ("θ₀, a copy of the parameters", self.saved_parameters),
            ("the host's copies in f32", self.host_copies),
            ("live gradients", self.live_gradients),
            ("g(θ₀)", self.gradient),
            ("one vector of work", self.work),
            ("preconditioner, update", self.optional),
            ("tracking's vectors", self.tracking),
            ("Lanczos basis", self.basis),
            ("its last two vectors", self.recent),
            ("deflated outliers", self.outliers),
            ("comparison with blocks", self.blocks),
            ("temporaries, at most", self.pieces),
        ];
        parts.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
    }
}
