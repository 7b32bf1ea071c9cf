//! Vectors that live in shards: every rank holds the entries that belong to its slice of the
//! parameters, and only sums over entries are communicated.
//!
//! - [`layout`]: which global index lives where;
//! - `ranks`: sums over ranks that also carry failures;
//! - `vector`: storage, copies from and to the host's tensors, chunks;
//! - `sums`: local sums in f64, out of libtorch's operations; `fused`: passes in loops of our own, where they can be;
//! - [`random`]: probe vectors whose entries depend on their global index only.

pub(crate) mod fused;
pub mod layout;
pub mod random;
pub(crate) mod ranks;
pub(crate) mod sums;
pub(crate) mod vector;

pub use layout::Layout;
pub use vector::ShardedVector;
