//! A Python with pinned packages, in a folder of the checkout.
//!
//! The environment is made in place, because its scripts hold its path; a marker written last tells
//! a finished one from a half-made one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::marker::{self, State};
use super::{lock, venv};
use crate::failure::{Failure, Result};
use crate::process::{capture, run, seconds};
use crate::workspace::Workspace;

pub struct Pinned {
    /// Whose it is, in messages.
    pub of: &'static str,
    /// Where it goes.
    pub folder: PathBuf,
    /// The packages, as pip reads them.
    pub requirements: PathBuf,
    /// What pip is told besides.
    pub pip: &'static [&'static str],
    /// What it takes, in messages.
    pub size: &'static str,
    /// Python that fails where a package is missing.
    pub import: &'static str,
    /// Whether that is quick enough to be tried each time: it notices a Python that was upgraded underneath.
    pub always_tried: bool,
    /// The variable in which users name one of their own.
    pub own: &'static str,
    /// What to do where theirs lacks a package.
    pub own_advice: &'static str,
    /// What to do where it cannot be made.
    pub advice: &'static str,
}

impl Pinned {
    /// Returns the Python that is to be used: the user's own, or the one in the folder, which is made where it is missing.
    pub fn prepare(&self, workspace: &Workspace) -> Result<PathBuf> {
        if let Some(own) = env::var_os(self.own).filter(|own| !own.is_empty()) {
            let own = PathBuf::from(own);
            self.check(&own).map_err(|failure| failure.with_advice(self.own_advice))?;
            eprintln!("Python of {}: {} (yours)", self.of, own.display());
            return Ok(own);
        }
        let requirements =
            fs::read_to_string(&self.requirements).map_err(Failure::at("read", &self.requirements))?;
        if !self.is_ready(&requirements) {
            let _lock = lock::acquire(workspace)?;
            // Another process may just have done it.
            if !self.is_ready(&requirements) {
                self.create(&requirements)?;
            }
        }
        let python = venv::python_of(&self.folder);
        eprintln!("Python of {}: {}", self.of, python.display());
        Ok(python)
    }

    fn is_ready(&self, requirements: &str) -> bool {
        let python = venv::python_of(&self.folder);
        marker::state(&self.folder, requirements) == State::Finished
            && if self.always_tried { self.check(&python).is_ok() } else { python.exists() }
    }

    fn check(&self, python: &Path) -> Result<()> {
        capture(Command::new(python).args(["-c", self.import])).map(|_| ())
    }

    fn create(&self, requirements: &str) -> Result<()> {
        let folder = self.folder.file_name().unwrap_or_default().display();
        match marker::state(&self.folder, requirements) {
            State::Missing => {}
            State::Outdated => eprintln!("{folder} was made from other requirements and is made anew"),
            State::Unfinished | State::Finished => eprintln!("{folder} is not complete and is made anew"),
        }
        eprintln!("making the Python environment of {} in {folder}: {}", self.of, self.size);
        let start = Instant::now();
        marker::remove(&self.folder)?;
        let outcome = self.install().and_then(|()| marker::write(&self.folder, requirements));
        if let Err(failure) = outcome {
            // The failure is what counts; leftovers have no marker and are removed next time.
            marker::remove(&self.folder).ok();
            return Err(failure);
        }
        eprintln!("made in {}", seconds(start.elapsed()));
        Ok(())
    }

    fn install(&self) -> Result<()> {
        venv::create(&self.folder)?;
        let mut pip = venv::pip_install(&self.folder);
        pip.arg("--quiet").args(self.pip).arg("--requirement").arg(&self.requirements);
        run(&mut pip)
            .and_then(|()| self.check(&venv::python_of(&self.folder)))
            .map_err(|failure| failure.with_advice(self.advice))
    }
}
