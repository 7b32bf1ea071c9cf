//! What is written: one of these a JSON line.

use crate::sharpness::CriticalSharpness;
use crate::spectrum::Snapshot;
use crate::tracking::Tracked;
use crate::triggers::Triggered;
use serde::{Deserialize, Serialize};

/// A record of the log, tagged by `"record"` in its serialised form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Record {
    /// A process began to log: at the start of a training or where it was resumed. Records before it
    /// with a step of at least `start_step` are orphans of a run that was interrupted.
    Session(Session),
    /// A probe.
    Snapshot(Box<Snapshot>),
    /// A probe that was due and did not come about.
    Skipped(Skipped),
    /// The largest eigenvalue between probes.
    Tracked(Tracked),
    /// Critical sharpness, at its own steps.
    Sharpness(CriticalSharpness),
    /// A probe started by itself: the snapshot, or why there is none, follows.
    Triggered(Triggered),
}

/// The start of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The first step that this process may log.
    pub start_step: u64,
    /// Ranks.
    pub world_size: usize,
    /// n, the number of parameters.
    pub parameters: u64,
    /// The configuration, as TOML, defaults filled in.
    pub config: String,
}

/// A probe that did not come about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    /// The step at which it was due.
    pub step: u64,
    /// Why.
    pub reason: String,
}
