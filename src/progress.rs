//! What a running probe tells of itself.

use crate::krylov::{Lanczos, LanczosState};
use std::fmt;

/// How far a running probe is. Told after each Lanczos step, and then after each product for blocks, by
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
    /// The comparison with diagonal blocks, which comes after the last Lanczos step.
    pub blocks: Option<BlocksProgress>,
}

/// How far a comparison with diagonal blocks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlocksProgress {
    /// Hessian-vector products taken, each counted once.
    pub hvps: u64,
    /// How many there are in the [plan](crate::blocks::Plan); fewer are taken where the spectrum of a block is
    /// exhausted before.
    pub planned: u64,
}

type Tell = Box<dyn FnMut(&ProbeProgress) + Send>;

/// Whom a probe tells, if anybody.
#[derive(Default)]
pub(crate) struct Observer {
    tell: Option<Tell>,
    /// What was told last.
    last: Option<ProbeProgress>,
}

impl Observer {
    pub(crate) fn new(tell: impl FnMut(&ProbeProgress) + Send + 'static) -> Self {
        Self { tell: Some(Box::new(tell)), last: None }
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
        let step = state.run.alpha.len();
        let blocks = None;
        self.tell(ProbeProgress { probe, probes, step, steps: lanczos.steps, complete, gradients, blocks });
    }

    /// After a product for blocks; Lanczos steps stay as they were.
    pub(crate) fn compared(&mut self, blocks: BlocksProgress, gradients: u64) {
        if let Some(last) = self.last {
            self.tell(ProbeProgress { blocks: Some(blocks), gradients, ..last });
        }
    }

    fn tell(&mut self, progress: ProbeProgress) {
        if let Some(tell) = &mut self.tell {
            tell(&progress);
            self.last = Some(progress);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tell.is_some() { "Observer" } else { "no observer" })
    }
}
