//! Parameters, gradients and optimizer state in slices: each rank owns `1/world_size` of every block.
//!
//! ```text
//! block "layers.0":  | q_proj | k_proj | v_proj | … | norm |pad|      one flat buffer, gathered only while
//! 3 ranks:           |---- rank 0 ----|---- rank 1 ----|---- rank 2 ----|             the block runs
//! ```
//!
//! A slice knows nothing of parameters' boundaries. What a rank owns of one parameter is the
//! intersection of the parameter's range with the rank's slice, and may be empty.

mod gather;
mod gathering;
mod gradients;
mod layout;
mod parameters;

pub use gather::{GatherMeter, Gathered};
pub use gathering::Gathering;
pub use gradients::GradientShards;
pub(crate) use gradients::split_shards;
pub use layout::{BlockLayout, ParameterLayout, Slice};
pub use parameters::ShardedParameters;
