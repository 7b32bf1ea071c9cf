//! The same dropout masks when a block runs again.

use crate::error::{Error, Result};
use hessian_probe_c10d::generator;
use tch::Device;

/// The states of the default generator before each block's first run, where the pass draws at all.
#[derive(Debug)]
pub(super) struct Masks {
    active: bool,
    rank: usize,
    device: Device,
    before: Vec<Vec<u8>>,
}

impl Masks {
    pub(super) fn new(active: bool, rank: usize, device: Device) -> Self {
        Self { active, rank, device, before: Vec::new() }
    }

    /// Keeps the present state: the next block's, or after the last block the end of the forward pass.
    pub(super) fn remember(&mut self) -> Result<()> {
        if self.active {
            let state =
                generator::state(self.device).map_err(|error| self.error(error, "the forward pass"))?;
            self.before.push(state);
        }
        Ok(())
    }

    /// Sets the generator to where the most recently remembered state was, and forgets it.
    pub(super) fn rewind(&mut self) -> Result<()> {
        match self.before.pop() {
            Some(state) => generator::set_state(self.device, &state)
                .map_err(|error| self.error(error, "running a block again")),
            None => Ok(()),
        }
    }

    /// Takes the most recently remembered state out, to be [`rewound`](Self::rewind) to at the end.
    pub(super) fn split_end(&mut self) -> Self {
        Self {
            active: self.active,
            rank: self.rank,
            device: self.device,
            before: self.before.pop().into_iter().collect(),
        }
    }

    fn error(&self, source: hessian_probe_c10d::Error, during: &str) -> Error {
        Error::Generator { rank: self.rank, during: during.into(), source: Box::new(source) }
    }
}
