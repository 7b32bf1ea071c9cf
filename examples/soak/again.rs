//! Probes that are taken again, of steps that are computed again.

use hessian_probe::Snapshot;
use std::collections::BTreeMap;

/// What earlier sessions found: the last snapshot of each step, and the hash of what the probe had learned before it.
#[derive(Debug, Default)]
pub struct Earlier(BTreeMap<u64, (Snapshot, u64)>);

impl Earlier {
    /// Compares with the earlier snapshot of the same step, if there was one: whether T is the same, bit for bit.
    ///
    /// The loss and the gradient are the same. T follows from them and from what had been `learned` of the gradient
    /// before: where that is the same, T is, too. It is another where an earlier probe was taken the one time and
    /// failed or was ended by SIGTERM the other; then T is the same within its error.
    ///
    /// # Errors
    /// What is not the same.
    pub fn compare(&mut self, snapshot: &Snapshot, learned: u64) -> Result<Option<bool>, String> {
        let now = (snapshot.clone(), learned);
        let Some((earlier, learned_earlier)) = self.0.insert(snapshot.step, now) else { return Ok(None) };
        let bits = |it: &Snapshot| (it.loss.to_bits(), it.gradient_norm.to_bits());
        let t = |it: &Snapshot| it.probes.iter().map(|it| (it.alpha.clone(), it.beta.clone())).collect();
        let (again, first): (Vec<_>, Vec<_>) = (t(snapshot), t(&earlier));
        let must_be_same = learned == learned_earlier;
        let off = (snapshot.lambda_max.value - earlier.lambda_max.value).abs();
        let error = snapshot.lambda_max.residual + earlier.lambda_max.residual;
        if bits(snapshot) != bits(&earlier) || (again != first && must_be_same) || off > error {
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
