//! What a running probe tells of itself.

use crate::krylov::{Lanczos, LanczosState};
use std::fmt;

/// How far a running probe is. Told after each Lanczos step by
/// [`HessianProbe::on_progress`](crate::HessianProbe::on_progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeProgress {
    /// The number of the probe vector, from 0.
    pub probe: usize,
    /// How many probe vectors there are.
    pub probes: usize,
    /// Lanczos steps done for this vector.
    pub step: usize,
    /// m, the steps that it takes; fewer where the Krylov space is exhausted before.
    pub steps: usize,
    /// Whether this vector's run has ended.
    pub complete: bool,
    /// Gradients that this process has computed in this probe.
    pub gradients: u64,
}

type Tell = Box<dyn FnMut(&ProbeProgress) + Send>;

/// Whom a probe tells, if anybody.
#[derive(Default)]
pub(crate) struct Observer(Option<Tell>);

impl Observer {
    pub(crate) fn new(tell: impl FnMut(&ProbeProgress) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// After a step of run number `probe` of `probes`.
    pub(crate) fn stepped(
        &mut self,
        (probe, probes): (usize, usize),
        lanczos: &Lanczos,
        state: &LanczosState,
        complete: bool,
        gradients: u64,
    ) {
        if let Some(tell) = &mut self.0 {
            let step = state.run.alpha.len();
            tell(&ProbeProgress { probe, probes, step, steps: lanczos.steps, complete, gradients });
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observer" } else { "no observer" })
    }
}
