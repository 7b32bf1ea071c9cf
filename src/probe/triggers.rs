//! Probes that start by themselves.

use super::HessianProbe;
use crate::callback::Control;
use crate::clock::unix_time;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::log::Record;
use crate::sharded::ranks::Ranks;
use crate::triggers::{FileWatch, Signals, TriggerState, Triggered};
use std::path::Path;

const LISTENING: &str = "agreeing on a trigger";
const LIMITING: &str = "agreeing on the margin";

/// What is kept from step to step.
#[derive(Debug, Default)]
pub(super) struct Armed {
    pub(super) state: TriggerState,
    /// What looks for the user's file, on rank 0.
    pub(super) file: Option<FileWatch>,
    /// That the host tells no loss has been said.
    told_of_no_loss: bool,
}

/// Looks for the user's file from here on.
pub(super) fn watch(file: &Path) -> Result<FileWatch> {
    let unwatched = |error| Error::config("triggers.file", format!("nothing can look for it: {error}"));
    FileWatch::start(file.to_owned()).map_err(unwatched)
}

impl HessianProbe {
    /// Whether a probe should start now; why, is logged. Collective where `[triggers]` is on, and nothing elsewhere.
    pub(super) fn triggered(&mut self, step: u64, host: &dyn Host) -> Result<bool> {
        if !self.config.triggers.is_on() {
            return Ok(false);
        }
        let signals = self.signals(step, host);
        let signals = signals.map_err(|source| Error::AtStep { step, source: Box::new(source) })?;
        let causes = self.armed.state.step(step, &self.config.triggers, signals);
        if causes.is_empty() {
            return Ok(false);
        }
        let triggered = Triggered { step, unix_time: unix_time(), causes, recent: self.armed.state.recent() };
        let level = if host.group().rank() == 0 { ::log::Level::Warn } else { ::log::Level::Debug };
        ::log::log!(level, "step {step}: a probe starts by itself: {triggered}");
        self.record(Record::Triggered(triggered));
        Ok(true)
    }

    /// The numbers of this step, as all ranks will know them: the mean loss, and what rank 0 sees of the rest.
    fn signals(&mut self, step: u64, host: &dyn Host) -> Result<Signals> {
        let mut ranks = Ranks::new(host);
        let first = ranks.rank() == 0;
        let mut local = vec![0.0; 9];
        let mut put = |place: usize, value: Option<f64>| {
            local[2 * place] = value.unwrap_or(0.0);
            local[2 * place + 1] = f64::from(u8::from(value.is_some()));
        };
        put(0, host.training_loss());
        if first {
            let tracked = self.latest_tracked.as_ref().filter(|tracked| tracked.step == step);
            put(1, tracked.map(|tracked| tracked.lambda_max.value));
            put(2, tracked.and_then(|tracked| tracked.stability.as_ref()?.margin));
            let sharpness = self.latest_sharpness().filter(|found| found.step == step);
            put(3, sharpness.and_then(|found| found.step_ratio_at_least()));
            local[8] = f64::from(u8::from(self.armed.file.as_ref().is_some_and(FileWatch::take)));
        }
        let sums = ranks.sum(host, LISTENING, local.len(), Ok(local))?;
        let take = |place: usize| (sums[2 * place + 1] > 0.0).then(|| sums[2 * place] / sums[2 * place + 1]);
        let loss = take(0);
        if loss.is_none()
            && self.config.triggers.loss_spike.is_some()
            && !std::mem::replace(&mut self.armed.told_of_no_loss, true)
            && first
        {
            ::log::warn!(
                "step {step}: triggers.loss_spike sees nothing: the host tells no loss of its training (`Host::training_loss`)"
            );
        }
        Ok(Signals { loss, lambda_max: take(1), margin: take(2), step_ratio: take(3), file: sums[8] > 0.0 })
    }

    /// What a margin found at this step asks of the loop. Collective where a limit is set and something was measured.
    pub(super) fn limited(&mut self, step: u64, host: &dyn Host) -> Result<Control> {
        if !self.config.triggers.limits_margin() {
            return Ok(Control::Continue);
        }
        let tracked = self.latest_tracked.as_ref().filter(|tracked| tracked.step == step);
        let probed = self.latest.as_ref().filter(|snapshot| snapshot.step == step);
        if tracked.is_none() && probed.is_none() {
            return Ok(Control::Continue);
        }
        let margins = [
            tracked.and_then(|tracked| tracked.stability.as_ref()?.margin),
            probed.and_then(|snapshot| snapshot.margin()),
        ];
        let local = margins.into_iter().flatten().fold(f64::NEG_INFINITY, f64::max);
        let margin = Ranks::new(host).max(host, LIMITING, &[local])?[0];
        let first = host.group().rank() == 0;
        let say = |what: &str, limit: f64| {
            let level = if first { ::log::Level::Warn } else { ::log::Level::Debug };
            ::log::log!(level, "step {step}: the margin {margin:.3} is above {limit}: {what}");
        };
        let config = &self.config.triggers;
        if let Some(limit) = config.stop_margin.filter(|limit| margin > *limit) {
            say("training is asked to stop", limit);
            return Ok(Control::RequestStop);
        }
        if self.armed.state.asks_for_checkpoint(step, config, margin) {
            say("a checkpoint is asked for", config.checkpoint_margin.unwrap_or(margin));
            return Ok(Control::RequestCheckpoint);
        }
        Ok(Control::Continue)
    }
}
