//! What ranks leave in files for the supervisor: a killed process sends no message, but what it wrote stays.

use crate::Result;
use crate::faults::GradientFault;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a session is to do; ranks get it in an environment variable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub dir: PathBuf,
    pub session: u64,
    pub seed: u64,
    /// Steps after which training is done.
    pub steps: u64,
    /// Whether there are probes and checkpoints.
    pub probes: bool,
    /// Whether faults happen within ranks.
    pub faults: bool,
}

impl Orders {
    pub const VARIABLE: &str = "HESSIAN_PROBE_SOAK";

    pub fn checkpoints(&self) -> PathBuf {
        self.dir.join("checkpoints")
    }

    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }
}

/// What ranks tell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// From which step rank 0 goes on.
    Resumed { session: u64, step: u64 },
    /// Rank 0 begins a probe, with what `learned` is a hash of.
    Probe { session: u64, step: u64, learned: u64 },
    /// A gradient fault came about.
    Gradient { session: u64, step: u64, kind: GradientFault },
    /// A rank could not write its part of a checkpoint.
    FullDisk { session: u64, step: u64 },
    /// Rank 0 ended by itself and has closed its logs.
    Ended {
        session: u64,
        step: u64,
        /// The records that it handed to the log, and the steps of the snapshots among them.
        records: u64,
        snapshots: Vec<u64>,
        /// `None` where it ended with an error.
        failed_checkpoints: Option<u64>,
        stopped: bool,
    },
    /// A rank's state when training is done.
    Final { rank: usize, parameters: u64, moments: u64, random_state: u64 },
}

impl Event {
    /// Appends the event by one write, which a signal does not tear.
    pub fn append(&self, dir: &Path) -> Result<()> {
        let line = serde_json::to_string(self)? + "\n";
        let mut file = OpenOptions::new().append(true).create(true).open(dir.join("events.jsonl"))?;
        Ok(file.write_all(line.as_bytes())?)
    }

    pub fn read(dir: &Path) -> Result<Vec<Self>> {
        match std::fs::read_to_string(dir.join("events.jsonl")) {
            Ok(text) => Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a rank is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Phase {
    /// Starting, meeting the others.
    Start,
    Resume,
    /// A step: forward, backward, with its gathers and reductions; optimizer.
    Step,
    Probe,
    Checkpoint,
    End,
}

impl Phase {
    const ALL: [Self; 6] = [Self::Start, Self::Resume, Self::Step, Self::Probe, Self::Checkpoint, Self::End];

    pub fn trains(self) -> bool {
        matches!(self, Self::Step | Self::Probe | Self::Checkpoint)
    }
}

/// A rank's file with its process's number and its [`Phase`].
#[derive(Debug)]
pub struct Presence(File);

impl Presence {
    fn path(dir: &Path, rank: usize) -> PathBuf {
        dir.join(format!("rank-{rank}"))
    }

    pub fn announce(dir: &Path, rank: usize) -> Result<Self> {
        let presence = Self(File::create(Self::path(dir, rank))?);
        let contents = format!("{} {}\n", Phase::Start as u8, std::process::id());
        presence.0.write_all_at(contents.as_bytes(), 0)?;
        Ok(presence)
    }

    /// Best effort: a phase that is not written only makes the supervisor wait.
    pub fn set(&self, phase: Phase) {
        let _ = self.0.write_all_at(&[b'0' + phase as u8], 0);
    }

    /// A rank's process and phase, once it has announced itself.
    pub fn read(dir: &Path, rank: usize) -> Option<(i32, Phase)> {
        let text = std::fs::read_to_string(Self::path(dir, rank)).ok()?;
        let (phase, process) = text.strip_suffix('\n')?.split_once(' ')?;
        Some((process.parse().ok()?, *Phase::ALL.get(phase.parse::<usize>().ok()?)?))
    }

    /// Removes what the ranks of an earlier session left.
    pub fn clear(dir: &Path, ranks: usize) {
        for rank in 0..ranks {
            let _ = std::fs::remove_file(Self::path(dir, rank));
        }
    }
}
