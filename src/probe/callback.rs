//! The points at which a loop calls.

use super::HessianProbe;
use crate::callback::{Callback, Control};
use crate::checkpoint::{Sidecar, top};
use crate::config::OnError;
use crate::error::{Error, Result};
use crate::hash::{as_f64, fnv1a};
use crate::host::Host;
use crate::schedule::ScheduleConfig;
use crate::sharded::ranks::Ranks;
use serde::Deserialize;
use std::path::Path;

const SAVING: &str = "saving the probe's state";
const LOADING: &str = "loading the probe's state";

impl Callback for HessianProbe {
    /// Checks configuration, shards and log directory, on all ranks together.
    fn on_train_begin(&mut self, host: &mut dyn Host) -> Result<Control> {
        self.make_ready(host)?;
        Ok(Control::Continue)
    }

    /// Measures critical sharpness of the coming update if `[sharpness]` says so. Otherwise nothing is communicated or
    /// computed.
    fn on_before_optimizer_step(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        self.watch_sharpness(step, host)
    }

    /// Probes if the schedule or a trigger says so. Otherwise nothing is computed, and nothing communicated unless
    /// `[triggers]` listens.
    fn on_step_end(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        self.make_ready(host)?;
        self.open_session(step, host);
        self.last_step = Some(step);
        let asked = self.watch_sharpness(step, host)?;
        let progress = host.progress();
        let due = self.config.schedule.is_due(step, &progress, self.previous_tokens);
        let track = ScheduleConfig::regular(self.config.track.every);
        let tracked = !due && track.is_due(step, &progress, self.previous_tokens);
        self.previous_tokens = progress.tokens.unwrap_or(0);
        let mut control = asked;
        if tracked {
            let taken = self.tracking_keeps_to_budget(step, host);
            let taken = taken.and_then(|()| self.track(step, host).map(drop));
            control = control.and(self.settle(step, taken)?);
        }
        if self.triggered(step, host)? || due {
            control = control.and(self.scheduled(step, host)?);
        }
        Ok(control.and(self.limited(step, host)?))
    }

    /// Writes what the logs still hold. Communicates nothing.
    fn on_exception(&mut self, error: &(dyn std::error::Error + 'static)) {
        ::log::debug!("training ends with an error ({error}); writing the logs");
        if let Err(error) = self.flush() {
            ::log::error!("{error}");
        }
    }

    /// Probes once more with `schedule.at_end`, unless the last step has just been probed; then waits
    /// for the logs.
    fn on_train_end(&mut self, host: &mut dyn Host) -> Result<Control> {
        let mut control = Control::Continue;
        if let Some(step) = self.last_step
            && self.config.schedule.at_end
            && self.last_probed != Some(step)
        {
            control = self.scheduled(step, host)?;
        }
        match self.flush() {
            Err(error) if self.config.on_error == OnError::Stop => Err(error),
            Err(error) => {
                ::log::error!("{error}");
                Ok(control)
            }
            Ok(()) => Ok(control),
        }
    }

    /// Probes if `schedule.at_checkpoints` says so, unless this step has just been probed; then rank 0 writes
    /// the probe's state into the checkpoint ([`Sidecar`]).
    ///
    /// # Errors
    /// When the state cannot be written, on all ranks: a checkpoint without it would not be whole.
    fn on_save_checkpoint(&mut self, step: u64, directory: &Path, host: &mut dyn Host) -> Result<Control> {
        self.make_ready(host)?;
        self.open_session(step, host);
        let mut control = Control::Continue;
        if self.config.schedule.at_checkpoints && self.last_probed != Some(step) {
            control = self.scheduled(step, host)?.and(self.limited(step, host)?);
        }
        let mut ranks = Ranks::new(host);
        let rank = ranks.rank();
        let checkpoint = |source| Error::Checkpoint { rank, source };
        // Vectors first: the state says that they are there.
        let world_size = ranks.world_size();
        let vector = self.layout.as_ref().zip(self.learned.top.as_ref());
        let vector =
            vector.map_or(Ok(()), |(layout, top)| top::save(directory, layout, top, rank, world_size));
        ranks.agree(host, SAVING, vector.map_err(checkpoint))?;
        let saved = if rank == 0 { self.sidecar(step, world_size).save(directory) } else { Ok(()) };
        ranks.agree(host, SAVING, saved.map_err(checkpoint))?;
        Ok(control)
    }

    /// Takes up the state that [`on_save_checkpoint`](Self::on_save_checkpoint) wrote. A checkpoint without one
    /// is a fresh start, which is logged. Any number of ranks will do.
    ///
    /// # Errors
    /// When the state is there and cannot be used, or is not the same for all ranks.
    fn on_load_checkpoint(&mut self, directory: &Path, host: &mut dyn Host) -> Result<Control> {
        let mut ranks = Ranks::new(host);
        let rank = ranks.rank();
        let loaded = Sidecar::load(directory).map_err(|source| Error::Checkpoint { rank, source });
        let loaded = ranks.agree(host, LOADING, loaded)?;
        let seen = serde_json::to_vec(&loaded).unwrap_or_default();
        if ranks.differs(host, LOADING, as_f64(fnv1a(seen)))? {
            let reason = format!("ranks find different ones in {}", directory.display());
            return Err(Error::State(reason));
        }
        match loaded {
            Some(sidecar) => {
                let written_by = sidecar.top_written_by;
                self.resume_from(sidecar);
                self.load_top(written_by, directory, host)?;
            }
            None if rank == 0 => {
                ::log::info!("no probe state in {}; starting afresh", directory.display());
            }
            None => {}
        }
        Ok(Control::Continue)
    }

    /// The same state that a checkpoint holds, but for the vector that tracking starts from, for loops that keep the
    /// states of callbacks themselves.
    fn state_dict(&self) -> serde_json::Value {
        serde_json::to_value(self.sidecar(self.last_step.unwrap_or(0), 0)).unwrap_or_default()
    }

    fn load_state_dict(&mut self, state: &serde_json::Value) -> Result<()> {
        let sidecar = Sidecar::deserialize(state).map_err(|error| Error::State(error.to_string()))?;
        sidecar.check().map_err(Error::State)?;
        self.resume_from(sidecar);
        Ok(())
    }
}
