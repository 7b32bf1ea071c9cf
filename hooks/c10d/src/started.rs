//! A collective under way.

use crate::error::Result;
use crate::ffi::WorkHandle;
use crate::link::Link;
use std::fmt;
use std::time::Instant;

/// A collective that was [started](crate::ProcessGroup::start_all_gather_into). Dropping it waits, too, so that no tensor
/// is read or written behind its owner's back, and says nothing of errors; they close the group. All ranks wait for it:
/// one that has the data of all others tells them so before it goes on.
///
/// ```
/// use hessian_probe_c10d::ProcessGroup;
/// use tch::Tensor;
///
/// let group = ProcessGroup::single();
/// let (shard, whole) = (Tensor::from_slice(&[1.0_f32, 2.0]), Tensor::from_slice(&[0.0_f32; 2]));
/// let gathering = group.start_all_gather_into(&whole, &shard)?;
/// // ... whatever does not need `whole` ...
/// gathering.wait()?;
/// assert_eq!(whole, shard);
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
#[must_use = "the result is there after `wait`"]
pub struct Started<'g> {
    /// None once it is done.
    under_way: Option<UnderWay<'g>>,
}

struct UnderWay<'g> {
    link: &'g Link,
    operation: String,
    work: WorkHandle,
    since: Instant,
}

impl<'g> Started<'g> {
    pub(crate) fn done() -> Self {
        Self { under_way: None }
    }

    pub(crate) fn new(link: &'g Link, operation: String, (work, since): (WorkHandle, Instant)) -> Self {
        Self { under_way: Some(UnderWay { link, operation, work, since }) }
    }

    /// Returns when the data is there.
    ///
    /// # Errors
    /// See the [crate's documentation](crate#errors).
    pub fn wait(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        self.under_way
            .take()
            .map_or(Ok(()), |UnderWay { link, operation, work, since }| link.finish(work, &operation, since))
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            log::debug!("{error}");
        }
    }
}

impl fmt::Debug for Started<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = self.under_way.as_ref().map_or("done", |under_way| &under_way.operation);
        f.debug_tuple("Started").field(&operation).finish()
    }
}
