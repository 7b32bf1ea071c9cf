//! What the ranks make together of what each of them came to.

use crate::error::Error;
use hessian_probe::{ProcessGroup, ReduceOp};
use std::any::Any;
use std::panic::resume_unwind;

/// What an evaluation on one rank came to: a value, an error, or a panic (as [`std::panic::catch_unwind`] gives it), which
/// must not go on before the other ranks know of it.
pub type Outcome<T, E = Error> = Result<Result<T, E>, Box<dyn Any + Send>>;

/// The mean over ranks of the loss that each found, and what this rank has derived of its own. Collective; for hosts of
/// loops in which each rank evaluates its own part of the batch. In `maxima` may be what else the ranks want to know the
/// largest of: as many values on all of them, reduced together with the failures.
///
/// All ranks return in the same way, so that none of them waits for one that gave up, and the group stays usable.
///
/// ```
/// use hessian_probe::SingleProcess;
/// use hessian_probe_var_store::{Error, agree};
///
/// let evaluated = || -> Result<(f64, &str), Error> { Ok((2.5, "a gradient")) };
/// let outcome = std::panic::catch_unwind(evaluated);
/// assert_eq!(agree(&SingleProcess, outcome, &mut [])?, (2.5, "a gradient"));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// On a rank that failed its own error; on the others [`Error::Peer`] with the lowest that did, or
/// [`Error::Communication`].
///
/// # Panics
/// On a rank whose evaluation panicked: the panic goes on once the others know.
pub fn agree<T, E: From<Error>>(
    group: &dyn ProcessGroup,
    outcome: Outcome<(f64, T), E>,
    maxima: &mut [f64],
) -> Result<(f64, T), E> {
    if group.world_size() == 1 {
        return outcome.unwrap_or_else(|panic| resume_unwind(panic));
    }
    let succeeded = matches!(outcome, Ok(Ok(_)));
    // The lowest rank that failed, negated.
    let mut bounds = vec![if succeeded { f64::NEG_INFINITY } else { -(group.rank() as f64) }];
    bounds.extend_from_slice(maxima);
    let communication = |source| Error::Communication { what: "what the ranks found", source };
    let reduced = group.all_reduce(&mut bounds, ReduceOp::Max);
    // This rank's own failure explains more than that of the collective after it.
    let (loss, derived) = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
    reduced.map_err(communication)?;
    if bounds[0] > f64::NEG_INFINITY {
        return Err(Error::Peer { failed: -bounds[0] as usize }.into());
    }
    maxima.copy_from_slice(&bounds[1..]);
    let mut sum = [loss];
    group.all_reduce(&mut sum, ReduceOp::Sum).map_err(communication)?;
    Ok((sum[0] / group.world_size() as f64, derived))
}
