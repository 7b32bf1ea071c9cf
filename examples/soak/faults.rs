//! The kinds of faults, and their order, which a seed determines.

use crate::records::Phase;
use hessian_probe::sharded::random::philox4x32;
use serde::Serialize;
use std::time::Duration;

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Ending {
    /// SIGKILL to one rank, at any time.
    Kill,
    /// SIGKILL while ranks start, meet and resume.
    KillAtStart,
    /// SIGKILL in a probe.
    KillInProbe,
    /// SIGKILL while a checkpoint is written.
    KillInSave,
    /// SIGKILL to all ranks at once.
    KillAll,
    /// SIGSTOP to one rank for longer than others wait, then SIGCONT.
    Stall,
    /// SIGSTOP to one rank, which never comes back.
    Vanish,
    /// SIGTERM to one rank in a probe: the loop saves and ends.
    Terminate,
    /// SIGTERM to all ranks, at any time: the next probe lets the loop save and end.
    TerminateAll,
}

impl Ending {
    const ALL: [Self; 9] = [
        Self::Kill,
        Self::KillAtStart,
        Self::KillInProbe,
        Self::KillInSave,
        Self::KillAll,
        Self::Stall,
        Self::Vanish,
        Self::Terminate,
        Self::TerminateAll,
    ];

    /// What the rank must be doing when it happens.
    pub fn aim(self) -> Option<Phase> {
        match self {
            Self::KillInProbe | Self::Terminate => Some(Phase::Probe),
            Self::KillInSave => Some(Phase::Checkpoint),
            _ => None,
        }
    }

    pub fn terminates(self) -> bool {
        matches!(self, Self::Terminate | Self::TerminateAll)
    }
}

/// What happens to files between two sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Damage {
    /// `snapshots.jsonl` ends in the middle of a record.
    JsonlCut,
    /// An event file does.
    EventsCut,
    /// One byte of the newest checkpoint is another.
    CheckpointFlipped,
    /// A file of the newest checkpoint is cut off.
    CheckpointCut,
    /// The probe's own state in the newest checkpoint is cut off.
    SidecarCut,
    /// The log directory is gone.
    LogsDeleted,
}

impl Damage {
    const ALL: [Self; 6] = [
        Self::CheckpointFlipped,
        Self::JsonlCut,
        Self::CheckpointCut,
        Self::EventsCut,
        Self::SidecarCut,
        Self::LogsDeleted,
    ];

    pub fn is_to_checkpoint(self) -> bool {
        matches!(self, Self::CheckpointFlipped | Self::CheckpointCut | Self::SidecarCut)
    }
}

/// What one rank's probe gradient does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
pub enum GradientFault {
    Error,
    Panic,
    NanGradient,
    NanLoss,
}

/// A gradient fault that is due: on which rank, at which gradient of the probe.
#[derive(Clone, Copy, Debug)]
pub struct DueGradientFault {
    pub kind: GradientFault,
    pub rank: usize,
    pub gradient: u64,
}

/// The gradient fault of the probe at `step`, if it has one: every rank knows it, one makes it come about. It
/// does so again where the step is computed again, so that what the probe has learned before a step is the same.
pub fn gradient_fault(seed: u64, step: u64, ranks: usize) -> Option<DueGradientFault> {
    use GradientFault::{Error, NanGradient, NanLoss, Panic};
    let mut random = Random::new(seed, [1, step as u32, (step >> 32) as u32]);
    (random.below(4) == 0).then(|| DueGradientFault {
        kind: [Error, Panic, NanGradient, NanLoss][random.below(4) as usize],
        rank: random.below(ranks as u64) as usize,
        gradient: 1 + random.below(9),
    })
}

/// A disk that is full on one rank while a checkpoint is written.
#[derive(Debug)]
pub struct FullDisk;

/// The rank that finds the disk full when the checkpoint after `step` is written.
pub fn full_disk(seed: u64, session: u64, step: u64, ranks: usize) -> Option<usize> {
    let mut random = Random::new(seed, [2, session as u32, step as u32]);
    (random.below(4) == 0).then(|| random.below(ranks as u64) as usize)
}

/// What happens to one session, and after it.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub ending: Ending,
    pub rank: usize,
    /// How long after the session has begun to train (or, for `KillAtStart`, after its start).
    pub after: Duration,
    /// How long after the rank has come to what [`Ending::aim`] says.
    pub into: Duration,
}

/// Draws faults: in a random order, but each kind once before any comes again.
#[derive(Debug)]
pub struct Plan {
    random: Random,
    ranks: usize,
    endings: Vec<Ending>,
    damages: Vec<Damage>,
}

impl Plan {
    pub fn new(seed: u64, ranks: usize) -> Self {
        Self { random: Random::new(seed, [0; 3]), ranks, endings: Vec::new(), damages: Vec::new() }
    }

    pub fn session(&mut self) -> Planned {
        if self.endings.is_empty() {
            self.endings = self.random.shuffled(&Ending::ALL);
        }
        let ending = self.endings.pop().unwrap_or(Ending::Kill);
        let most = if ending == Ending::KillAtStart { 1000 } else { 3000 };
        Planned {
            ending,
            rank: self.random.below(self.ranks as u64) as usize,
            after: Duration::from_millis(100 + self.random.below(most)),
            into: Duration::from_micros(self.random.below(10_000)),
        }
    }

    /// After most sessions something happens to a file.
    pub fn damage(&mut self) -> Option<Damage> {
        if self.random.below(4) == 0 {
            return None;
        }
        if self.damages.is_empty() {
            self.damages = self.random.shuffled(&Damage::ALL);
        }
        self.damages.pop()
    }

    /// Gives back what could not be done now.
    pub fn postpone(&mut self, damage: Damage) {
        self.damages.insert(0, damage);
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }
}

/// Random numbers as a function of a seed and a stream.
#[derive(Debug)]
pub struct Random {
    key: [u32; 2],
    stream: [u32; 3],
    counter: u32,
}

impl Random {
    fn new(seed: u64, stream: [u32; 3]) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], stream, counter: 0 }
    }

    /// A number in `0..end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let [a, b, c] = self.stream;
        let bits = philox4x32([self.counter, a, b, c], self.key);
        self.counter += 1;
        let bits = (u64::from(bits[0]) << 32) | u64::from(bits[1]);
        ((u128::from(bits) * u128::from(end)) >> 64) as u64
    }

    fn shuffled<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        let mut all = all.to_vec();
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last as u64 + 1) as usize);
        }
        all
    }
}
