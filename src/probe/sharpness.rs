//! Critical sharpness at its own steps.

use super::HessianProbe;
use crate::budget::Overhead;
use crate::callback::Control;
use crate::error::Result;
use crate::host::Host;
use crate::log::Record;
use crate::schedule::ScheduleConfig;
use crate::sharded::Layout;
use crate::sharpness::{self, CriticalSharpness};

/// What is kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Watched {
    overhead: Overhead,
    /// The step at which it was last due.
    due: Option<u64>,
    /// The last one of this process.
    latest: Option<CriticalSharpness>,
    /// c, where the next search begins.
    pub(super) last: Option<f64>,
    /// That the host lends no update has been said.
    told_of_no_update: bool,
    /// That the budget makes it rarer has been said.
    told_of_budget: bool,
}

impl HessianProbe {
    /// Measures critical sharpness now ([`sharpness`](crate::sharpness)), whatever the schedule says, and logs it: before
    /// the optimizer's step of the coming update, elsewhere of the last. `None` where the host lends none, or it is 0.
    /// Collective.
    ///
    /// # Errors
    /// When the host fails on any rank; everything is restored.
    pub fn critical_sharpness(
        &mut self,
        step: u64,
        host: &mut dyn Host,
    ) -> Result<Option<CriticalSharpness>> {
        self.make_ready(host)?;
        self.open_session(step, host);
        let training = self.watched.overhead.training_seconds();
        let found = self.agreed(step, host, |probe, layout, host| {
            let Self { config, watched, interrupter, .. } = probe;
            sharpness::measure(host, layout, config, &mut watched.last, interrupter, step)
        })?;
        let Some(mut found) = found else { return Ok(None) };
        found.share = training.filter(|training| *training > 0.0).map(|training| found.seconds / training);
        self.watched.overhead.record(found.seconds);
        self.record(Record::Sharpness(found.clone()));
        ::log::debug!(
            "step {step}: the loss rises between {:?} and {:?} times the update, {} forward passes in {:.2} s",
            found.lower,
            found.upper,
            found.passes,
            found.seconds
        );
        self.watched.latest = Some(found.clone());
        Ok(Some(found))
    }

    /// Critical sharpness as it was measured last, on every rank.
    #[must_use]
    pub fn latest_sharpness(&self) -> Option<&CriticalSharpness> {
        self.watched.latest.as_ref()
    }

    /// The same where it is due, once a step.
    pub(super) fn watch_sharpness(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        let every = self.config.sharpness.every;
        if every.is_none() || self.watched.due == Some(step) {
            return Ok(Control::Continue);
        }
        if !ScheduleConfig::regular(every).is_due(step, &host.progress(), self.previous_tokens) {
            return Ok(Control::Continue);
        }
        self.make_ready(host)?;
        self.watched.due = Some(step);
        match self.sharpness_keeps_to_budget(step, host) {
            Err(error) if error.is_expected() => {
                // No skipped probe: the number is as frequent as its budget allows.
                if !std::mem::replace(&mut self.watched.told_of_budget, true) {
                    ::log::info!(
                        "critical sharpness is measured less often than sharpness.every says: {error}"
                    );
                }
                return Ok(Control::Continue);
            }
            Err(error) => return self.settle(step, Err(error)),
            Ok(()) => {}
        }
        let found = self.critical_sharpness(step, host);
        if matches!(found, Ok(None))
            && host.group().rank() == 0
            && !std::mem::replace(&mut self.watched.told_of_no_update, true)
        {
            ::log::warn!(
                "step {step}: no critical sharpness: the host lends no update of the optimizer (`Host::update`), or it is 0"
            );
        }
        self.settle(step, found.map(drop))
    }

    fn sharpness_keeps_to_budget(&self, step: u64, host: &dyn Host) -> Result<()> {
        let bytes = |layout: &Layout| sharpness::bytes(host, layout, &self.config);
        self.within("critical sharpness", step, host, &self.watched.overhead, &bytes)
    }
}
