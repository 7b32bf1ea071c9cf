//! Whether the host's optimizer can give what the configuration asks for.

use crate::config::ProbeConfig;
use crate::error::{Error, Result};
use crate::host::Host;

const KEY: &str = "slq.operator";
const LENDING: &str = "lending its optimizer";

/// Refuses limits of a margin that nobody would ever find.
pub(super) fn check_limits(config: &ProbeConfig, host: &dyn Host) -> Result<()> {
    let triggers = &config.triggers;
    let limits = [
        ("triggers.margin", triggers.margin),
        ("triggers.checkpoint_margin", triggers.checkpoint_margin),
        ("triggers.stop_margin", triggers.stop_margin),
    ];
    let Some((key, _)) = limits.into_iter().find(|(_, limit)| limit.is_some()) else { return Ok(()) };
    let rank = host.group().rank();
    let lent = host.optimizer().map_err(|source| Error::Host { rank, during: LENDING, source })?;
    match lent {
        None => {
            let reason = "needs to know the loop's optimizer, and this host lends none (`Host::optimizer`)";
            Err(Error::config(key, reason))
        }
        Some(optimizer) if optimizer.kind.adaptive().is_some() && config.slq.operator.is_hessian() => {
            let reason = format!(
                "what {} bears is a matter of its own coordinates; with slq.operator = \"preconditioned\" or \"both\"",
                optimizer.kind.name()
            );
            Err(Error::config(key, reason))
        }
        Some(_) => Ok(()),
    }
}

/// Refuses a preconditioned spectrum that this host can never give.
pub(super) fn check(host: &dyn Host) -> Result<()> {
    let rank = host.group().rank();
    let lent = host.optimizer().map_err(|source| Error::Host { rank, during: LENDING, source })?;
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
