//! Probes that are taken again, of steps that are computed again.

use hessian_probe::Snapshot;
use std::collections::BTreeMap;

/// What earlier sessions found.
#[derive(Debug, Default)]
pub struct Earlier {
    /// The last snapshot of each step.
    snapshots: BTreeMap<u64, Snapshot>,
    /// The first step whose probe was ended by SIGTERM, or failed.
    interrupted: Option<u64>,
}

impl Earlier {
    /// The probe of `step` was ended by SIGTERM, or failed.
    pub fn interrupted(&mut self, step: u64) {
        self.interrupted = Some(self.interrupted.map_or(step, |first| first.min(step)));
    }

    /// Compares with the earlier snapshot of the same step, if there was one: whether T is the same, bit for bit.
    ///
    /// The loss and the gradient are the same, and so is T. Only where an earlier probe was taken the one time and
    /// failed or was ended by SIGTERM the other, what had been learned of the gradient is different, and T is the same within
    /// its error.
    ///
    /// # Errors
    /// What is not the same.
    pub fn compare(&mut self, snapshot: &Snapshot) -> Result<Option<bool>, String> {
        let Some(earlier) = self.snapshots.insert(snapshot.step, snapshot.clone()) else { return Ok(None) };
        let bits = |it: &Snapshot| (it.loss.to_bits(), it.gradient_norm.to_bits());
        let t = |it: &Snapshot| it.probes.iter().map(|it| (it.alpha.clone(), it.beta.clone())).collect();
        let (again, first): (Vec<_>, Vec<_>) = (t(snapshot), t(&earlier));
        let may_differ = self.interrupted.is_some_and(|step| step < snapshot.step);
        let off = (snapshot.lambda_max.value - earlier.lambda_max.value).abs();
        let error = snapshot.lambda_max.residual + earlier.lambda_max.residual;
        if bits(snapshot) != bits(&earlier) || (again != first && !may_differ) || off > error {
            let of = |it: &Snapshot| format!("{:e} {:e} {:?}", it.loss, it.gradient_norm, it.lambda_max);
            return Err(format!(
                "the probe of step {} found {} {again:?}, earlier {} {first:?}",
                snapshot.step,
                of(snapshot),
                of(&earlier)
            ));
        }
        Ok(Some(again == first))
    }
}
