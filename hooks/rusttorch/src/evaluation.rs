//! One call of the closure on this rank, and what the ranks make of it together.

use crate::error::{Error, Result};
use crate::group::SharedGroup;
use hessian_probe::{ProcessGroup as _, ReduceOp};
use hessian_probe_c10d::generator;
use hessian_probe_var_store::{Error as Evaluation, Loss, derivatives};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tch::{Device, Tensor};

/// What an evaluation came to, with a panic kept until the other ranks know of it.
pub(crate) type Outcome<T> = std::result::Result<Result<T>, Box<dyn Any + Send>>;

/// Calls the closure with the gathered parameters and `derive`s something of its loss with respect to them, in the order of
/// their names. The generator is left as it was on every way out.
pub(crate) fn evaluate<L: Loss, T>(
    full: &mut BTreeMap<String, Tensor>,
    closure: &mut impl FnMut(&BTreeMap<String, Tensor>) -> L,
    derive: impl FnOnce(&[&Tensor], &Tensor) -> hessian_probe_var_store::Result<T>,
) -> Outcome<(f64, T)> {
    let before = match random_state() {
        Ok(state) => state,
        Err(error) => return Ok(Err(error)),
    };
    // The loop may be in `no_grad`; and a closure that panics in one leaves it on, but not beyond this.
    let outcome = tch::with_grad(|| {
        catch_unwind(AssertUnwindSafe(|| {
            for tensor in full.values_mut() {
                *tensor = tensor.f_set_requires_grad(true).map_err(|source| Evaluation::Torch {
                    during: "preparing the gathered parameters",
                    source,
                })?;
            }
            let loss = closure(full).into_loss().map_err(Evaluation::Closure)?;
            let value = derivatives::value(&loss)?;
            let parameters: Vec<&Tensor> = full.values().collect();
            Ok((value, derive(&parameters, &loss)?))
        }))
    });
    let put_back = set_random_state(&before);
    outcome.map(|evaluated: Result<_, Evaluation>| {
        let evaluated = evaluated?;
        put_back.map(|()| evaluated)
    })
}

/// The mean loss of all ranks, and what this rank has derived. Where one rank failed all get an error, and the group stays
/// usable; a panic goes on once they know.
///
/// The crate's own way of agreeing would close the group.
pub(crate) fn agree<T>(group: &SharedGroup, outcome: Outcome<(f64, T)>) -> Result<(f64, T)> {
    let rank = group.rank();
    // The lowest rank that failed, negated.
    let mut failed = [if matches!(outcome, Ok(Ok(_))) { f64::NEG_INFINITY } else { -(rank as f64) }];
    let communication = |source| Evaluation::Communication { what: "what the ranks found", source };
    let reduced = group.all_reduce(&mut failed, ReduceOp::Max);
    // This rank's own failure explains more than that of the collective after it.
    let (loss, derived) = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
    reduced.map_err(communication)?;
    if failed[0] > f64::NEG_INFINITY {
        return Err(Error::Evaluation(Evaluation::Peer { failed: -failed[0] as usize }));
    }
    let mut sum = [loss];
    group.all_reduce(&mut sum, ReduceOp::Sum).map_err(communication)?;
    Ok((sum[0] / group.world_size() as f64, derived))
}

/// The state of the generator that the closure may draw from.
pub(crate) fn random_state() -> Result<Vec<u8>> {
    Ok(generator::state(Device::Cpu).map_err(keeping)?)
}

pub(crate) fn set_random_state(state: &[u8]) -> Result<()> {
    Ok(generator::set_state(Device::Cpu, state).map_err(keeping)?)
}

fn keeping(source: hessian_probe_c10d::Error) -> Evaluation {
    Evaluation::Derivative { during: "keeping the random state", source }
}
