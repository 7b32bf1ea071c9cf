//! One measurement on the host's loan: all ranks agree, then measure.

use super::{AGREEING, HessianProbe};
use crate::directions::{self, Along, AlongUpdate};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::log::Record;
use crate::sharded::Layout;
use crate::sharded::ranks::Ranks;
use crate::slq;
use crate::spectrum::Snapshot;
use crate::tracking::{self, Tracked};
use tch::Tensor;

impl HessianProbe {
    /// Measures the largest eigenvalue now, by a few products from the last top vector, and logs it. Collective.
    ///
    /// # Errors
    /// When a product fails on any rank; parameters are restored.
    pub fn track(&mut self, step: u64, host: &mut dyn Host) -> Result<Tracked> {
        self.make_ready(host)?;
        self.open_session(step, host);
        let tracked = self.agreed(step, host, |probe, layout, host| {
            let Self { config, learned, interrupter, .. } = probe;
            tracking::track(host, layout, config, learned, interrupter, step)
        })?;
        self.track_overhead.record(tracked.seconds);
        self.latest_tracked = Some(tracked.clone());
        self.record(Record::Tracked(tracked.clone()));
        ::log::debug!(
            "step {step}: tracked λ_max {:.4e} ± {:.1e}, {} gradients in {:.2} s",
            tracked.lambda_max.value,
            tracked.lambda_max.residual,
            tracked.gradients,
            tracked.seconds
        );
        Ok(tracked)
    }

    /// Measures the curvature along `direction` now: one tensor for each of the host's shards, this rank's slice of it.
    /// `None` for a direction of 0. Nothing is logged. Collective.
    ///
    /// # Errors
    /// When the direction does not fit the shards, or the product fails, on any rank; parameters are restored.
    pub fn along(&mut self, step: u64, host: &mut dyn Host, direction: &[Tensor]) -> Result<Option<Along>> {
        self.make_ready(host)?;
        self.agreed(step, host, |probe, layout, host| {
            let Self { config, learned, interrupter, .. } = probe;
            directions::along(host, layout, config, &mut learned.calibration, interrupter, direction)
        })
    }

    /// Measures the curvature along the update that the host lends, and what the loss does along it: in
    /// [`on_before_optimizer_step`](crate::Callback::on_before_optimizer_step) the coming one, elsewhere the last. `None`
    /// where it lends none. Nothing is logged. Collective.
    ///
    /// # Errors
    /// When the host or a product fails, on any rank; parameters are restored.
    pub fn along_update(&mut self, step: u64, host: &mut dyn Host) -> Result<Option<AlongUpdate>> {
        self.make_ready(host)?;
        self.agreed(step, host, |probe, layout, host| {
            let Self { config, learned, interrupter, .. } = probe;
            directions::along_update(host, layout, config, &mut learned.calibration, interrupter)
        })
    }

    pub(super) fn measure(&mut self, step: u64, host: &mut dyn Host) -> Result<Snapshot> {
        let partition = self.blocks_due().cloned();
        self.agreed(step, host, |probe, layout, host| {
            let HessianProbe { config, learned, interrupter, observer, .. } = probe;
            let watch = slq::Watch { interrupter, observer };
            slq::snapshot(host, layout, config, learned, watch, partition.as_ref(), step)
        })
    }

    /// Runs a measurement once all ranks have said that they mean the same step and the same shards.
    pub(super) fn agreed<T>(
        &mut self,
        step: u64,
        host: &mut dyn Host,
        measure: impl FnOnce(&mut Self, &Layout, &mut dyn Host) -> Result<T>,
    ) -> Result<T> {
        let attempt = |probe: &mut Self| {
            let mut ranks = Ranks::new(host);
            if ranks.differs(host, AGREEING, step as f64)? {
                return Err(Error::config(
                    "schedule",
                    "ranks probe at different steps; do all of them call every method?",
                ));
            }
            let layout = probe.layout.clone().filter(|layout| layout.matches(&host.shards()));
            let layout = ranks.agree(host, AGREEING, layout.ok_or_else(|| changed(ranks.rank())))?;
            measure(probe, &layout, host)
        };
        let before = self.learned.calibration.clone();
        attempt(self).map_err(|source| {
            // A measurement that failed leaves no trace: later ones find what they would have found without it.
            self.learned.calibration = before;
            Error::AtStep { step, source: Box::new(source) }
        })
    }
}

fn changed(rank: usize) -> Error {
    let reason = "the host's shards are not those of the start of training".into();
    Error::Layout { rank, parameter: "*".into(), reason }
}
