//! The losses of all steps, in bits, appended by rank 0 as it goes.

use crate::Result;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

const FILE: &str = "losses.txt";

/// Where rank 0 writes.
#[derive(Debug)]
pub struct CurveWriter(File);

impl CurveWriter {
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self(OpenOptions::new().append(true).create(true).open(dir.join(FILE))?))
    }

    pub fn append(&mut self, step: u64, loss: f64) -> std::io::Result<()> {
        self.0.write_all(format!("{step} {:016x}\n", loss.to_bits()).as_bytes())
    }
}

/// Losses by step.
#[derive(Debug, Default)]
pub struct Curve {
    pub losses: BTreeMap<u64, u64>,
    /// Steps taken in all, those computed again included.
    pub taken: u64,
    /// Steps that had another loss when they were computed again.
    pub contradictions: Vec<u64>,
}

impl Curve {
    pub fn read(dir: &Path) -> Result<Self> {
        let mut curve = Self::default();
        let text = match std::fs::read_to_string(dir.join(FILE)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        for line in text.lines() {
            let (step, loss) = line.split_once(' ').ok_or_else(|| format!("{FILE} has a line `{line}`"))?;
            let (step, loss) = (step.parse()?, u64::from_str_radix(loss, 16)?);
            curve.taken += 1;
            if curve.losses.insert(step, loss).is_some_and(|earlier| earlier != loss) {
                curve.contradictions.push(step);
            }
        }
        Ok(curve)
    }

    /// Steps from the first on, without a gap.
    pub fn steps(&self) -> u64 {
        (0..).zip(self.losses.keys()).take_while(|(expected, step)| expected == *step).count() as u64
    }

    pub fn recomputed(&self) -> u64 {
        self.taken - self.losses.len() as u64
    }

    /// The first step of `0..steps` that is missing in one of two curves or has another loss.
    pub fn first_difference(&self, other: &Self, steps: u64) -> Option<u64> {
        (0..steps).find(|step| {
            let (mine, theirs) = (self.losses.get(step), other.losses.get(step));
            mine.is_none() || mine != theirs
        })
    }
}
