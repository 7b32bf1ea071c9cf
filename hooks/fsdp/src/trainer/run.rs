//! Many steps, with callbacks at the points that the crate's page shows.

use super::{StepReport, Trainer};
use crate::checkpoint::{OnSaveError, retain};
use crate::error::{Error, Result};
use hessian_probe::{Callback, Control, Host};

/// How a run ended.
///
/// ```
/// use hessian_probe_c10d::ProcessGroup;
/// use hessian_probe_fsdp::{Corpus, LlamaConfig, RunReport, Trainer, TrainerConfig};
///
/// # let corpus = Corpus::from_bytes("Fuzzy Wuzzy was a bear. ".repeat(50).into_bytes(), 0.2)?;
/// # let mut config = TrainerConfig::new(LlamaConfig::new(256, 16, 40, 1, 2), 4, 16);
/// # config.threads = Some(1);
/// let mut trainer = Trainer::new(config, ProcessGroup::single(), corpus)?;
/// let report = trainer.run(3, &mut [], |_| ())?;
/// assert_eq!(report, RunReport { steps: 3, ..RunReport::default() });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// The steps that this run took.
    pub steps: u64,
    /// Whether a callback asked to stop.
    pub stopped: bool,
    /// Whether a callback asked for a checkpoint.
    pub checkpoint_requested: bool,
    /// The checkpoints that were saved.
    pub checkpoints: u64,
    /// The checkpoints that could not be saved, with [`OnSaveError::Continue`].
    pub failed_checkpoints: u64,
}

/// What callbacks ask for, both at once if they do.
#[derive(Clone, Copy, Default)]
struct Requests {
    checkpoint: bool,
    stop: bool,
}

impl Requests {
    fn add(&mut self, control: Control) {
        self.checkpoint |= control == Control::RequestCheckpoint;
        self.stop |= control == Control::RequestStop;
    }
}

impl Trainer {
    /// Trains for `steps` more steps, or until a callback asks to stop.
    ///
    /// `callbacks` are called at the start and the end, with each step's gradient before the optimizer
    /// uses it, and after each step; then `on_step` gets the report. Where a step or a callback fails, every
    /// callback's [`on_exception`](Callback::on_exception) is told and the error is returned. All ranks
    /// must pass the same steps and corresponding callbacks, and those must ask for the same on all ranks.
    ///
    /// With [`TrainerConfig::checkpoint`](crate::TrainerConfig::checkpoint), a [checkpoint](Self::save) is saved
    /// after every `every` steps (of training, not of this run), after a step in which a callback asked for
    /// one, and after the last step.
    ///
    /// # Errors
    /// As [`step`](Self::step), and [`Callback`](Error::Callback); as [`save`](Self::save), unless
    /// [`OnSaveError::Continue`] is set.
    pub fn run(
        &mut self,
        steps: u64,
        callbacks: &mut [&mut dyn Callback],
        on_step: impl FnMut(&StepReport),
    ) -> Result<RunReport> {
        if self.config.schedule.total_steps().is_none() {
            self.total_steps = Some(self.step + steps);
        }
        let result = self.run_steps(steps, callbacks, on_step);
        if let Err(error) = &result {
            for callback in callbacks {
                callback.on_exception(error);
            }
        }
        result
    }

    fn run_steps(
        &mut self,
        steps: u64,
        callbacks: &mut [&mut dyn Callback],
        mut on_step: impl FnMut(&StepReport),
    ) -> Result<RunReport> {
        let mut report = RunReport::default();
        let mut requests = Requests::default();
        let mut saved = None;
        self.call(callbacks, &mut requests, self.step, "on_train_begin", |callback, host| {
            callback.on_train_begin(host)
        })?;
        while report.steps < steps && !requests.stop {
            self.backward()?;
            let step = self.step;
            self.call(callbacks, &mut requests, step, "on_before_optimizer_step", |callback, host| {
                callback.on_before_optimizer_step(step, host)
            })?;
            let done = self.optimizer_step()?;
            report.steps += 1;
            self.call(callbacks, &mut requests, step, "on_step_end", |callback, host| {
                callback.on_step_end(step, host)
            })?;
            on_step(&done);
            let every = self.config.checkpoint.as_ref().and_then(|checkpoint| checkpoint.every);
            if requests.checkpoint || every.is_some_and(|every| self.step.is_multiple_of(every)) {
                self.save_in_run(callbacks, &mut requests, &mut report, &mut saved)?;
            }
        }
        report.stopped = requests.stop;
        // What was saved after the last step need not be saved again.
        if saved != Some(self.step) && (report.steps > 0 || requests.checkpoint) {
            self.save_in_run(callbacks, &mut requests, &mut report, &mut saved)?;
        }
        self.call(callbacks, &mut requests, self.step, "on_train_end", |callback, host| {
            callback.on_train_end(host)
        })?;
        if requests.checkpoint {
            self.save_in_run(callbacks, &mut requests, &mut report, &mut saved)?;
        }
        Ok(report)
    }

    /// Saves where and how the configuration says, and fulfils a request by that.
    fn save_in_run(
        &mut self,
        callbacks: &mut [&mut dyn Callback],
        requests: &mut Requests,
        report: &mut RunReport,
        saved: &mut Option<u64>,
    ) -> Result<()> {
        let requested = std::mem::take(&mut requests.checkpoint);
        report.checkpoint_requested |= requested;
        let Some(checkpoint) = self.config.checkpoint.clone() else {
            if requested {
                log::warn!(
                    "a callback asked for a checkpoint, but there is no `checkpoint.dir` to save it in"
                );
            }
            return Ok(());
        };
        match self.save_and_ask(&checkpoint.dir, callbacks) {
            Ok((_, control)) => {
                *saved = Some(self.step);
                report.checkpoints += 1;
                requests.stop |= control == Control::RequestStop;
                if let Some(keep) = checkpoint.keep.filter(|_| self.group.rank() == 0)
                    && let Err(error) = retain(&checkpoint.dir, keep, *saved)
                {
                    log::warn!("{error}");
                }
                Ok(())
            }
            Err(error) if checkpoint.on_error == OnSaveError::Continue && !error.is_communication() => {
                log::error!("no checkpoint of step {}: {error}", self.step);
                report.failed_checkpoints += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Calls every callback, and adds up their requests.
    fn call(
        &mut self,
        callbacks: &mut [&mut dyn Callback],
        requests: &mut Requests,
        step: u64,
        during: &'static str,
        mut call: impl FnMut(&mut dyn Callback, &mut dyn Host) -> hessian_probe::Result<Control>,
    ) -> Result<()> {
        let rank = self.group.rank();
        for callback in callbacks {
            let control = call(&mut **callback, self).map_err(|source| Error::Callback {
                rank,
                step,
                during,
                source: Box::new(source),
            })?;
            requests.add(control);
        }
        Ok(())
    }
}
