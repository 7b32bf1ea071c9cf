//! One call of the closure, on this rank.

use crate::agreement::Outcome;
use crate::derivatives::value;
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::variables::Variables;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::Tensor;

/// Calls the closure and `derive`s something of its loss. Buffers and generators are left as they were on every way out.
pub(crate) fn evaluate<L: Loss, T>(
    variables: &Variables,
    closure: &mut impl FnMut() -> L,
    derive: impl FnOnce(&Tensor) -> Result<T>,
) -> Outcome<(f64, T)> {
    let kept = match variables.check().and_then(|()| variables.keep()) {
        Ok(kept) => kept,
        Err(error) => return Ok(Err(error)),
    };
    // The loop may be in `no_grad`; and a closure that panics in one leaves it on, but not beyond this.
    let outcome = tch::with_grad(|| {
        catch_unwind(AssertUnwindSafe(|| {
            let loss = closure().into_loss().map_err(Error::Closure)?;
            let value = value(&loss)?;
            Ok((value, derive(&loss)?))
        }))
    });
    let put_back = variables.put_back(&kept);
    outcome.map(|evaluated| evaluated.and_then(|evaluated| put_back.map(|()| evaluated)))
}
