//! Many steps, with callbacks at the points that the crate's page shows.

use super::{StepReport, Trainer};
use crate::error::{Error, Result};
use hessian_probe::{Callback, Control, Host};

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// The steps that this run took.
    pub steps: u64,
    /// Whether a callback asked to stop.
    pub stopped: bool,
    /// Whether a callback asked for a checkpoint, which this crate does not write yet.
    pub checkpoint_requested: bool,
}

impl Trainer {
    /// Trains for `steps` more steps, or until a callback asks to stop.
    ///
    /// `callbacks` are called at the start and the end, with each step's gradient before the optimizer
    /// uses it, and after each step; then `on_step` gets the report. Where a step or a callback fails, every
    /// callback's [`on_exception`](Callback::on_exception) is told and the error is returned. All ranks
    /// must pass the same steps and corresponding callbacks, and those must ask for the same on all ranks.
    ///
    /// # Errors
    /// As [`step`](Self::step), and [`Callback`](Error::Callback).
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
        let mut control = self
            .call(callbacks, self.step, "on_train_begin", |callback, host| callback.on_train_begin(host))?;
        while report.steps < steps && control != Control::RequestStop {
            report.checkpoint_requested |= control == Control::RequestCheckpoint;
            self.backward()?;
            let step = self.step;
            control = self.call(callbacks, step, "on_before_optimizer_step", |callback, host| {
                callback.on_before_optimizer_step(step, host)
            })?;
            let done = self.optimizer_step()?;
            report.steps += 1;
            let after =
                self.call(callbacks, step, "on_step_end", |callback, host| callback.on_step_end(step, host))?;
            control = control.and(after);
            on_step(&done);
        }
        report.stopped = control == Control::RequestStop;
        report.checkpoint_requested |= control == Control::RequestCheckpoint;
        let last =
            self.call(callbacks, self.step, "on_train_end", |callback, host| callback.on_train_end(host))?;
        report.checkpoint_requested |= last == Control::RequestCheckpoint;
        if report.checkpoint_requested {
            log::warn!("a callback asked for a checkpoint, which this trainer does not write yet");
        }
        Ok(report)
    }

    /// Calls every callback, and returns the strongest request.
    fn call(
        &mut self,
        callbacks: &mut [&mut dyn Callback],
        step: u64,
        during: &'static str,
        mut call: impl FnMut(&mut dyn Callback, &mut dyn Host) -> hessian_probe::Result<Control>,
    ) -> Result<Control> {
        let rank = self.group.rank();
        let mut control = Control::Continue;
        for callback in callbacks {
            let request = call(&mut **callback, self).map_err(|source| Error::Callback {
                rank,
                step,
                during,
                source: Box::new(source),
            })?;
            control = control.and(request);
        }
        Ok(control)
    }
}
