//! What a probe takes in time and memory, before it runs.
//!
//! The law has two halves. *Counts* follow from sizes and configuration alone, and are what a probe does: its
//! [`Memory`] is what it allocates (and what `budget.max_memory` compares with its limit), its [`Work`] has the gradients,
//! all_reduces, values and bytes that it will tell in its [`Cost`](crate::spectrum::Cost). *Seconds* are counts times the
//! constants of a [`Machine`], part by part ([`Parts`]); each probe measures the same parts of its own. What only the loss can
//! decide (how many products are computed again, at how many distances the noise is looked for) is a [`Course`], which can
//! be read off a snapshot. A [`Plan`] puts them together.
//!
//! - [`parts`](Parts): where the time of a probe goes;
//! - [`facts`](Facts): sizes of a host; [`memory`](Memory), [`work`](Work): the counts;
//! - [`course`](Course): what a probe meets on its way;
//! - [`machine`](Machine): seconds;
//! - [`gradient`](GradientWork): the time of one gradient, where it was not measured;
//! - [`plan`](Plan): what fits, and how often.

pub(crate) mod clock;
mod course;
mod facts;
mod gradient;
mod machine;
mod memory;
mod parts;
mod plan;
mod work;

pub use course::{Course, Products};
pub use facts::{CHUNK_CORE, CHUNK_DEVICE, Facts, Types};
pub use gradient::{Block, GradientWork, Traffic};
pub use machine::Machine;
pub use memory::Memory;
pub use parts::Parts;
pub use plan::{Choice, Plan, Question};
pub use work::{Passes, Work};
