//! Whether the host's optimizer can give what the configuration asks for.

use crate::error::{Error, Result};
use crate::host::Host;

const KEY: &str = "slq.operator";

/// Refuses a preconditioned spectrum that this host can never give.
pub(super) fn check(host: &dyn Host) -> Result<()> {
    let rank = host.group().rank();
    let lent =
        host.optimizer().map_err(|source| Error::Host { rank, during: "lending its optimizer", source })?;
    let Some(optimizer) = lent else {
        let reason = "needs the loop's second moments, and this host lends no optimizer (`Host::optimizer`); \"hessian\" always works";
        return Err(Error::config(KEY, reason));
    };
    if optimizer.kind.adaptive().is_none() {
        let reason = format!(
            "the loop's optimizer ({}) has no second moments: what counts for it is λ_max of the Hessian itself, which \
             \"hessian\" compares with its threshold",
            optimizer.kind.name()
        );
        return Err(Error::config(KEY, reason));
    }
    if optimizer.steps > 0 && optimizer.second_moments.is_empty() {
        let reason = format!(
            "the host lends no second moments after {} steps of {}; \"hessian\" always works",
            optimizer.steps,
            optimizer.kind.name()
        );
        return Err(Error::config(KEY, reason));
    }
    optimizer.fault(&host.shards()).map_or(Ok(()), |reason| Err(Error::Optimizer { rank, reason }))
}
