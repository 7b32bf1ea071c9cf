//! One call of the closure on this rank.

use crate::error::{Error, Result};
use hessian_probe_c10d::generator;
use hessian_probe_var_store::{During, Error as Evaluation, Loss, Outcome, derivatives};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::{Device, Tensor};

const KEEPING: &str = "keeping the random state";

/// Calls the closure with the gathered parameters and `derive`s something of its loss with respect to them, in the order of
/// their names. The generator is left as it was on every way out.
pub(crate) fn evaluate<L: Loss, T>(
    full: &mut BTreeMap<String, Tensor>,
    closure: &mut impl FnMut(&BTreeMap<String, Tensor>) -> L,
    derive: impl FnOnce(&[&Tensor], &Tensor) -> hessian_probe_var_store::Result<T>,
) -> Outcome<(f64, T), Error> {
    let before = match random_state() {
        Ok(state) => state,
        Err(error) => return Ok(Err(error)),
    };
    // The loop may be in `no_grad`; and a closure that panics in one leaves it on, but not beyond this.
    let outcome = tch::with_grad(|| {
        catch_unwind(AssertUnwindSafe(|| {
            for tensor in full.values_mut() {
                *tensor = tensor.f_set_requires_grad(true).during("preparing the gathered parameters")?;
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

/// The state of the generator that the closure may draw from.
pub(crate) fn random_state() -> Result<Vec<u8>> {
    Ok(generator::state(Device::Cpu).during(KEEPING)?)
}

pub(crate) fn set_random_state(state: &[u8]) -> Result<()> {
    Ok(generator::set_state(Device::Cpu, state).during(KEEPING)?)
}
