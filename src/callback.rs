//! What we offer a training loop: points at which it calls us.

use crate::error::Result;
use crate::host::Host;
use std::error::Error as StdError;
use std::path::Path;

/// What a callback asks of the loop.
///
/// ```
/// use hessian_probe::Control;
///
/// // One callback wants a checkpoint, another has seen enough: the loop does the stronger.
/// let asked = [Control::default(), Control::RequestCheckpoint, Control::RequestStop];
/// assert_eq!(asked.into_iter().fold(Control::Continue, Control::and), Control::RequestStop);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    #[default]
    Continue,
    /// Save a checkpoint as soon as it suits.
    RequestCheckpoint,
    /// Stop training after this step.
    RequestStop,
}

impl Control {
    /// The stronger of two requests: stop over checkpoint over continue.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        use Control::{Continue, RequestCheckpoint, RequestStop};
        match (self, other) {
            (RequestStop, _) | (_, RequestStop) => RequestStop,
            (RequestCheckpoint, _) | (_, RequestCheckpoint) => RequestCheckpoint,
            (Continue, Continue) => Continue,
        }
    }
}

/// Points of a training loop (the crate's page shows them in a diagram). Every rank calls every
/// method in the same order with the same arguments, since an implementation may communicate.
///
/// ```
/// use hessian_probe::{Callback, Control, Host, Result};
///
/// /// Has the loop save after so many steps, and stop when it has seen enough.
/// struct Patience {
///     save_every: u64,
///     stop_after: u64,
/// }
///
/// impl Callback for Patience {
///     fn on_step_end(&mut self, step: u64, _host: &mut dyn Host) -> Result<Control> {
///         let save = if (step + 1).is_multiple_of(self.save_every) { Control::RequestCheckpoint } else { Control::Continue };
///         let stop = if step + 1 >= self.stop_after { Control::RequestStop } else { Control::Continue };
///         Ok(save.and(stop)) // the stronger of the two
///     }
/// }
///
/// # use hessian_probe::{Gradient, HostError, ProcessGroup, Shard, SingleProcess};
/// # /// L = x²/2 + 2y².
/// # struct Valley(tch::Tensor);
/// # impl Host for Valley {
/// #     fn shards(&self) -> Vec<Shard> {
/// #         Shard::whole([("xy".to_owned(), self.0.shallow_clone())], false)
/// #     }
/// #     fn gradient(&mut self) -> std::result::Result<Gradient, HostError> {
/// #         let gradient = self.0.f_mul(&tch::Tensor::from_slice(&[1.0, 4.0]))?;
/// #         let loss = gradient.f_dot(&self.0)?.f_double_value(&[])? / 2.0;
/// #         Ok(Gradient { loss, tensors: vec![gradient] })
/// #     }
/// #     fn group(&self) -> &dyn ProcessGroup {
/// #         &SingleProcess
/// #     }
/// # }
/// # let mut host = Valley(tch::Tensor::from_slice(&[3.0, 1.0]));
/// let mut callback = Patience { save_every: 10, stop_after: 100 };
/// assert_eq!(callback.on_step_end(8, &mut host)?, Control::Continue);
/// assert_eq!(callback.on_step_end(9, &mut host)?, Control::RequestCheckpoint);
/// assert_eq!(callback.on_step_end(99, &mut host)?, Control::RequestStop);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
pub trait Callback {
    /// Before the first step, with the model in place.
    ///
    /// # Errors
    /// When the callback cannot do its work with this host; nothing has been trained yet.
    fn on_train_begin(&mut self, host: &mut dyn Host) -> Result<Control> {
        let _ = host;
        Ok(Control::Continue)
    }

    /// With the gradient of this step in the loop's buffers, before the optimizer uses it.
    ///
    /// # Errors
    /// As the implementation says.
    fn on_before_optimizer_step(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        let _ = (step, host);
        Ok(Control::Continue)
    }

    /// After optimizer step number `step` (counted from 0).
    ///
    /// # Errors
    /// As the implementation says.
    fn on_step_end(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        let _ = (step, host);
        Ok(Control::Continue)
    }

    /// After the loop has written its own part of a checkpoint into `directory`.
    ///
    /// # Errors
    /// As the implementation says.
    fn on_save_checkpoint(&mut self, step: u64, directory: &Path, host: &mut dyn Host) -> Result<Control> {
        let _ = (step, directory, host);
        Ok(Control::Continue)
    }

    /// After the loop has restored itself from `directory`.
    ///
    /// # Errors
    /// As the implementation says.
    fn on_load_checkpoint(&mut self, directory: &Path, host: &mut dyn Host) -> Result<Control> {
        let _ = (directory, host);
        Ok(Control::Continue)
    }

    /// When the loop ends with `error`. Must not communicate: peers may be gone.
    fn on_exception(&mut self, error: &(dyn StdError + 'static)) {
        let _ = error;
    }

    /// After the last step.
    ///
    /// # Errors
    /// As the implementation says.
    fn on_train_end(&mut self, host: &mut dyn Host) -> Result<Control> {
        let _ = host;
        Ok(Control::Continue)
    }

    /// What the callback wants to find again after a restart.
    fn state_dict(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Restores what [`state_dict`](Self::state_dict) returned.
    ///
    /// # Errors
    /// When `state` is not of the expected form.
    fn load_state_dict(&mut self, state: &serde_json::Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}
