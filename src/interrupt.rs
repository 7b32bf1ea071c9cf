//! Ending a probe from outside of it: from a signal handler, say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A handle by which another thread, or a signal handler, ends the probe that is running: at its next
/// product, on all ranks together, with everything restored. The callback then returns
/// [`Control::RequestStop`](crate::Control::RequestStop), so that the loop can save and end.
///
/// Setting it while no probe runs stops the next one that is due as soon as it begins. It stays set.
///
/// ```
/// use hessian_probe::{Callback, Control, HessianProbe, ProbeConfig};
///
/// # use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard, SingleProcess};
/// # /// L = x²/2 + 2y².
/// # struct Valley(tch::Tensor);
/// # impl Host for Valley {
/// #     fn shards(&self) -> Vec<Shard> {
/// #         Shard::whole([("xy".to_owned(), self.0.shallow_clone())], false)
/// #     }
/// #     fn gradient(&mut self) -> Result<Gradient, HostError> {
/// #         let gradient = self.0.f_mul(&tch::Tensor::from_slice(&[1.0, 4.0]))?;
/// #         let loss = gradient.f_dot(&self.0)?.f_double_value(&[])? / 2.0;
/// #         Ok(Gradient { loss, tensors: vec![gradient] })
/// #     }
/// #     fn group(&self) -> &dyn ProcessGroup {
/// #         &SingleProcess
/// #     }
/// # }
/// # let mut host = Valley(tch::Tensor::from_slice(&[3.0, 1.0]));
/// let mut probe = HessianProbe::new(ProbeConfig::from_toml_str("[schedule]\nevery = 1\n[slq]\nsteps = 2\n[log]\ntensorboard = false\njsonl = false")?)?;
/// let interrupter = probe.interrupter();
/// probe.on_train_begin(&mut host)?;
/// // On SIGTERM, say, from the handler:
/// std::thread::spawn(move || interrupter.interrupt()).join().unwrap();
/// assert_eq!(probe.on_step_end(0, &mut host)?, Control::RequestStop);
/// assert!(probe.interrupter().is_interrupted());
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Interrupter(Arc<AtomicBool>);

impl Interrupter {
    /// Asks for the end of the probe. Safe to call in a signal handler: it stores one atomic flag.
    pub fn interrupt(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.0.load(Relaxed)
    }
}
