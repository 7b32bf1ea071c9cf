//! A host that counts and times what a probe asks of it, and trains in between.

use crate::Result;
use hessian_probe::{
    Callback, Control, Gradient, Host, HostError, ProcessGroup, Progress, RandomState, ReduceOp, Shard,
};
use hessian_probe_fsdp::Trainer;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What happened so far.
#[derive(Debug, Default)]
pub struct Log {
    /// Seconds of each gradient that the probe asked for.
    pub gradients: Vec<f64>,
    /// Seconds of each backward pass of the training beside it.
    pub backwards: Vec<f64>,
    /// Lengths of the probe's all_reduces.
    pub reductions: Vec<usize>,
    /// Seconds in them.
    pub reducing: f64,
    /// Seconds of the training beside: not the probe's.
    pub paused: f64,
}

/// A trainer that lends itself to a probe. At every second gradient another trainer, alike in all, takes
/// a step: what the machine's other users take away, they take from both.
pub struct Instrumented {
    pub probed: Trainer,
    training: Option<Trainer>,
    pub log: Rc<RefCell<Log>>,
}

impl Instrumented {
    pub fn new(probed: Trainer, training: Option<Trainer>) -> Self {
        Self { probed, training, log: Rc::default() }
    }

    /// One step of the trainer beside.
    pub fn train(&mut self) -> Result<()> {
        let Some(trainer) = &mut self.training else { return Ok(()) };
        let started = Instant::now();
        let mut watch = BackwardWatch { started, taken: Duration::ZERO };
        trainer.run(1, &mut [&mut watch], |_| {})?;
        let mut log = self.log.borrow_mut();
        log.backwards.push(watch.taken.as_secs_f64());
        log.paused += started.elapsed().as_secs_f64();
        Ok(())
    }
}

/// Times a trainer's backward pass, from the start of a run of one step on.
struct BackwardWatch {
    started: Instant,
    taken: Duration,
}

impl Callback for BackwardWatch {
    fn on_train_begin(&mut self, _: &mut dyn Host) -> hessian_probe::Result<Control> {
        self.started = Instant::now();
        Ok(Control::Continue)
    }

    fn on_before_optimizer_step(&mut self, _: u64, _: &mut dyn Host) -> hessian_probe::Result<Control> {
        self.taken = self.started.elapsed();
        Ok(Control::Continue)
    }
}

impl Host for Instrumented {
    fn shards(&self) -> Vec<Shard> {
        self.probed.shards()
    }

    fn gradient(&mut self) -> std::result::Result<Gradient, HostError> {
        let started = Instant::now();
        let gradient = self.probed.gradient()?;
        let count = {
            let mut log = self.log.borrow_mut();
            log.gradients.push(started.elapsed().as_secs_f64());
            log.gradients.len()
        };
        if count.is_multiple_of(2) {
            self.train()?;
        }
        Ok(gradient)
    }

    fn group(&self) -> &dyn ProcessGroup {
        self
    }

    fn probe_tokens(&self) -> Option<u64> {
        self.probed.probe_tokens()
    }

    fn progress(&self) -> Progress {
        self.probed.progress()
    }

    fn random_state(&mut self) -> std::result::Result<Option<RandomState>, HostError> {
        self.probed.random_state()
    }

    fn set_random_state(&mut self, state: &RandomState) -> std::result::Result<(), HostError> {
        self.probed.set_random_state(state)
    }
}

impl ProcessGroup for Instrumented {
    fn rank(&self) -> usize {
        self.probed.group().rank()
    }

    fn world_size(&self) -> usize {
        self.probed.group().world_size()
    }

    fn all_reduce(&self, values: &mut [f64], op: ReduceOp) -> std::result::Result<(), HostError> {
        let started = Instant::now();
        let reduced = ProcessGroup::all_reduce(self.probed.group(), values, op);
        let mut log = self.log.borrow_mut();
        log.reductions.push(values.len());
        log.reducing += started.elapsed().as_secs_f64();
        reduced
    }

    fn barrier(&self) -> std::result::Result<(), HostError> {
        ProcessGroup::barrier(self.probed.group())
    }
}
