//! The probe of one rank, to whose gradients something happens, with an account of what it logs.

use crate::faults::{DueGradientFault, GradientFault, gradient_fault};
use crate::records::{Event, Orders, Phase, Presence};
use hessian_probe::{
    Callback, Control, Gradient, HessianProbe, Host, HostError, ProcessGroup, Progress, RandomState, Result,
    Shard,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use tch::Tensor;

/// A [`HessianProbe`] with faults.
pub struct Watched<'a> {
    pub probe: HessianProbe,
    orders: &'a Orders,
    presence: &'a Presence,
    rank: usize,
    /// The records that the logs must hold.
    pub records: u64,
    /// The steps of which they must hold a snapshot.
    pub snapshots: Vec<u64>,
    /// Steps after which the loop saves.
    checkpoint_every: u64,
    /// A hash of what the probe has learned of the gradient so far, on which its steps depend.
    learned: u64,
}

impl<'a> Watched<'a> {
    pub fn new(
        probe: HessianProbe,
        orders: &'a Orders,
        presence: &'a Presence,
        rank: usize,
        checkpoint_every: u64,
    ) -> Self {
        let learned = learned(&probe);
        Self { probe, orders, presence, rank, records: 0, snapshots: Vec::new(), checkpoint_every, learned }
    }
}

impl Callback for Watched<'_> {
    fn on_train_begin(&mut self, host: &mut dyn Host) -> Result<Control> {
        self.probe.on_train_begin(host)
    }

    fn on_step_end(&mut self, step: u64, host: &mut dyn Host) -> Result<Control> {
        let ranks = host.group().world_size();
        let due = self.orders.faults.then(|| gradient_fault(self.orders.seed, step, ranks));
        let fault = due.flatten().filter(|fault| fault.rank == self.rank);
        let told = (self.rank == 0).then_some(self.learned);
        let mut host = Faulty { host, calls: 0, fault, told, watch: (self.orders, self.presence, step) };
        let result = self.probe.on_step_end(step, &mut host);
        let probed = host.calls > 0 || !matches!(result, Ok(Control::Continue));
        if probed {
            self.learned = learned(&self.probe);
        }
        // The first call opens the session in the logs.
        self.records += u64::from(self.records == 0) + u64::from(probed);
        if probed && self.probe.latest().is_some_and(|latest| latest.step == step) {
            self.snapshots.push(step);
        }
        let saves =
            (step + 1).is_multiple_of(self.checkpoint_every) || matches!(result, Ok(Control::RequestStop));
        self.presence.set(if saves { Phase::Checkpoint } else { Phase::Step });
        if saves {
            // The disk may be full from now on; records are on it before.
            self.probe.on_exception(&std::fmt::Error);
        }
        result
    }

    fn on_save_checkpoint(&mut self, step: u64, directory: &Path, host: &mut dyn Host) -> Result<Control> {
        self.probe.on_save_checkpoint(step, directory, host)
    }

    fn on_load_checkpoint(&mut self, directory: &Path, host: &mut dyn Host) -> Result<Control> {
        let result = self.probe.on_load_checkpoint(directory, host);
        self.learned = learned(&self.probe);
        result
    }

    fn on_exception(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.probe.on_exception(error);
    }

    fn on_train_end(&mut self, host: &mut dyn Host) -> Result<Control> {
        self.presence.set(Phase::End);
        self.probe.on_train_end(host)
    }

    fn state_dict(&self) -> serde_json::Value {
        self.probe.state_dict()
    }

    fn load_state_dict(&mut self, state: &serde_json::Value) -> Result<()> {
        let result = self.probe.load_state_dict(state);
        self.learned = learned(&self.probe);
        result
    }
}

/// A hash of what a probe has learned.
fn learned(probe: &HessianProbe) -> u64 {
    let mut hasher = DefaultHasher::new();
    probe.state_dict()["calibration"].to_string().hash(&mut hasher);
    hasher.finish()
}

/// A host, one of whose gradients goes wrong.
struct Faulty<'h, 'a> {
    host: &'h mut dyn Host,
    calls: u64,
    fault: Option<DueGradientFault>,
    /// What the probe has learned before, where that is to be told.
    told: Option<u64>,
    watch: (&'a Orders, &'a Presence, u64),
}

impl Host for Faulty<'_, '_> {
    fn shards(&self) -> Vec<Shard> {
        self.host.shards()
    }

    fn gradient(&mut self) -> std::result::Result<Gradient, HostError> {
        let (orders, presence, step) = self.watch;
        presence.set(Phase::Probe);
        if let Some(learned) = self.told.take() {
            let event = Event::Probe { session: orders.session, step, learned };
            event.append(&orders.dir).map_err(|error| error.to_string())?;
        }
        let mut gradient = self.host.gradient()?;
        self.calls += 1;
        let Some(fault) = self.fault.filter(|fault| fault.gradient == self.calls) else {
            return Ok(gradient);
        };
        let event = Event::Gradient { session: orders.session, step, kind: fault.kind };
        event.append(&orders.dir).map_err(|error| error.to_string())?;
        match fault.kind {
            GradientFault::Error => return Err("an error of the loop".into()),
            GradientFault::Panic => panic!("a panic of the loop"),
            GradientFault::NanLoss => gradient.loss = f64::NAN,
            GradientFault::NanGradient => {
                let last = gradient.tensors.iter().rev().find(|tensor| tensor.numel() > 0);
                if let Some(tensor) = last {
                    let _ = tensor.f_view([-1])?.f_get(0)?.f_fill_(f64::NAN)?;
                }
            }
        }
        Ok(gradient)
    }

    fn loss(&mut self) -> std::result::Result<f64, HostError> {
        self.host.loss()
    }

    fn group(&self) -> &dyn ProcessGroup {
        self.host.group()
    }

    fn probe_tokens(&self) -> Option<u64> {
        self.host.probe_tokens()
    }

    fn progress(&self) -> Progress {
        self.host.progress()
    }

    fn live_gradients(&self) -> Vec<Tensor> {
        self.host.live_gradients()
    }

    fn random_state(&mut self) -> std::result::Result<Option<RandomState>, HostError> {
        self.host.random_state()
    }

    fn set_random_state(&mut self, state: &RandomState) -> std::result::Result<(), HostError> {
        self.host.set_random_state(state)
    }
}
