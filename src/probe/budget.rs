//! Whether a probe that is due keeps to its limits.

use super::{AGREEING, HessianProbe};
use crate::budget::{BudgetConfig, Bytes, Overhead};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::sharded::Layout;
use crate::sharded::ranks::Ranks;
use crate::slq;
use crate::tracking;

impl HessianProbe {
    /// Whether a probe keeps to its limits, by the rank on which it costs most.
    pub(super) fn keep_to_budget(&self, step: u64, host: &dyn Host) -> Result<()> {
        let bytes = |layout: &Layout| slq::bytes(host, layout, &self.config, self.blocks_due());
        self.within("a probe", step, host, &self.overhead, &bytes)
    }

    /// The same for tracking: limits hold for each kind of measurement on its own.
    pub(super) fn tracking_keeps_to_budget(&self, step: u64, host: &dyn Host) -> Result<()> {
        let bytes = |layout: &Layout| tracking::bytes(host, layout, &self.config);
        self.within("tracking", step, host, &self.track_overhead, &bytes)
    }

    pub(super) fn within(
        &self,
        what: &str,
        step: u64,
        host: &dyn Host,
        overhead: &Overhead,
        bytes: &dyn Fn(&Layout) -> u64,
    ) -> Result<()> {
        let budget = &self.config.budget;
        let Some(layout) = self.layout.as_ref().filter(|_| *budget != BudgetConfig::default()) else {
            return Ok(());
        };
        let expected = [overhead.expected(), bytes(layout) as f64];
        let most = Ranks::new(host).max(host, AGREEING, &expected)?;
        let over = |reason| Err(Error::AtStep { step, source: Box::new(Error::OverBudget(reason)) });
        if let Some(limit) = budget.max_overhead.filter(|limit| most[0] > *limit) {
            return over(format!(
                "{what} like the last one is {:.1} % of the training time since it, more than budget.max_overhead = {:.1} %",
                100.0 * most[0],
                100.0 * limit
            ));
        }
        if let Some(limit) = budget.max_memory.filter(|limit| most[1] > limit.0 as f64) {
            return over(format!(
                "{what} takes {} on a rank, more than budget.max_memory = {limit}; fewer slq.steps or another slq.reorthogonalize take less",
                Bytes(most[1] as u64)
            ));
        }
        Ok(())
    }
}
