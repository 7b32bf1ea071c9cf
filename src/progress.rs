//! What a running probe tells of itself.

use crate::krylov::{Lanczos, LanczosState};
use std::fmt;

/// How far a running probe is. Told after each Lanczos step, and then after each product for blocks, by
/// [`HessianProbe::on_progress`](crate::HessianProbe::on_progress).
///
/// ```
/// use hessian_probe::{HessianProbe, ProbeConfig};
/// use std::sync::{Arc, Mutex};
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
/// let config = "[slq]\nsteps = 2\nprobes = 3\n[log]\ntensorboard = false\njsonl = false";
/// let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(config)?)?;
/// let bar = Arc::new(Mutex::new(String::new()));
/// let shown = bar.clone();
/// probe.on_progress(move |now| {
///     *shown.lock().unwrap() = format!("vector {} of {}, step {} of {}", now.probe + 1, now.probes, now.step, now.steps);
/// });
/// probe.probe(0, &mut host)?;
/// assert_eq!(*bar.lock().unwrap(), "vector 3 of 3, step 2 of 2");
/// # Ok::<(), hessian_probe::Error>(())
/// ```
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
///
/// ```
/// use hessian_probe::{HessianProbe, ProbeConfig};
/// use std::sync::{Arc, Mutex};
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
/// let config = "[slq]\nsteps = 2\n[blocks]\nby = \"tensor\"\nvectors = 2\n[log]\ntensorboard = false\njsonl = false";
/// let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(config)?)?;
/// let last = Arc::new(Mutex::new(None));
/// let seen = last.clone();
/// probe.on_progress(move |now| *seen.lock().unwrap() = now.blocks);
/// probe.probe(0, &mut host)?;
/// let blocks = last.lock().unwrap().expect("they were asked for");
/// assert!(blocks.hvps > 0 && blocks.hvps <= blocks.planned);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
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
