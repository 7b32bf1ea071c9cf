//! All ranks or none: how the failure of one rank becomes that of all.

use crate::error::{Error, Result};
use crate::trainer::reduce;
use hessian_probe::ReduceOp;
use hessian_probe_c10d::ProcessGroup;

/// `mine` where every rank has an `Ok`; else an error on every rank: its own, or [`Error::Peer`]. Whether
/// that error [is damage](Error::is_damage) is the same on all ranks, so that they decide alike what to do
/// next. Collective.
pub(crate) fn agree<T>(group: &ProcessGroup, during: &'static str, mine: Result<T>) -> Result<T> {
    let (rank, world_size) = (group.rank(), group.world_size());
    let mut failed = [0.0; 2];
    if let Err(error) = &mine {
        if error.is_communication() {
            // The group is closed: the others have this error, too, or get it in their next call.
            return mine;
        }
        let index = (world_size - rank) as f64;
        failed = [index, if error.is_damage() { 0.0 } else { index }];
    }
    let reduced = reduce(group, &mut failed, ReduceOp::Max, during);
    if let Err(lost) = reduced {
        return mine.and(Err(lost));
    }
    let peer = |index: f64, damage: bool| Error::Peer {
        rank,
        failed: world_size.saturating_sub(index as usize),
        during,
        damage,
    };
    match mine {
        Ok(value) if failed[0] == 0.0 => Ok(value),
        Ok(_) if failed[1] > 0.0 => Err(peer(failed[1], false)),
        Ok(_) => Err(peer(failed[0], true)),
        Err(error) if error.is_damage() && failed[1] > 0.0 => {
            log::error!("{error}");
            Err(peer(failed[1], false))
        }
        Err(error) => Err(error),
    }
}

/// Rank 0's `values` on every rank. Collective.
pub(super) fn from_rank_zero(group: &ProcessGroup, during: &'static str, values: &mut [f64]) -> Result<()> {
    if group.rank() != 0 {
        values.fill(0.0);
    }
    // A sum with zeros is exact.
    reduce(group, values, ReduceOp::Sum, during)
}

/// Every rank's `mine`, one behind the other, where rank `k` gives `lengths[k]` values. Collective.
pub(super) fn gather(
    group: &ProcessGroup,
    during: &'static str,
    lengths: &[usize],
    mine: &[f64],
) -> Result<Vec<f64>> {
    let mut all = vec![0.0; lengths.iter().sum()];
    let start: usize = lengths.iter().take(group.rank()).sum();
    for (slot, value) in all.iter_mut().skip(start).zip(mine) {
        *slot = *value;
    }
    reduce(group, &mut all, ReduceOp::Sum, during)?;
    Ok(all)
}
