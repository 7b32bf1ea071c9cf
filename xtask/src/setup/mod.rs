//! What the other commands need on a fresh machine. Done once; after that a few checks of files.
//!
//! - [`choice`]: which libtorch is used: the user's own, or ours
//! - [`own`]: checks the user's own
//! - [`libtorch`]: ours, downloaded into `.torch`
//! - [`smollm2`](mod@smollm2): a model, for the demo that asks for it
//! - [`fuzzing`](mod@fuzzing): a nightly toolchain and cargo-fuzz, for the command that needs them
//! - [`python`]: the environment in which tests read our files back
//! - [`peers`](mod@peers): that of the libraries that we are compared with
//! - [`compiler`]: a C++ compiler is there
//! - [`pinned`]: a Python with pinned packages, made where it is missing
//! - [`venv`]: Python's virtual environments, and pip in them
//! - [`marker`]: tells a finished folder from a half-made one
//! - [`lock`]: one set-up at a time

mod choice;
mod compiler;
mod fuzzing;
mod libtorch;
mod lock;
mod marker;
mod own;
mod peers;
mod pinned;
mod python;
mod smollm2;
mod venv;

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::failure::Result;
use crate::process::heading;
use crate::workspace::Workspace;
use choice::Choice;
pub use fuzzing::prepare as fuzzing;
pub use peers::prepare as peers;
pub use smollm2::prepare as smollm2;

/// What the set-up found: how cargo is to be called.
pub struct Environment {
    choice: Choice,
    python: PathBuf,
}

impl Environment {
    pub fn cargo(&self, workspace: &Workspace) -> Command {
        self.with(workspace.cargo())
    }

    pub fn nightly_cargo(&self, workspace: &Workspace) -> Command {
        self.with(workspace.nightly_cargo())
    }

    fn with(&self, mut command: Command) -> Command {
        command.env("HESSIAN_PROBE_PYTHON", &self.python);
        if let Choice::Managed = self.choice {
            // An empty LIBTORCH would win over `.cargo/config.toml`. Without any, cargo sets the
            // very string that it sets for `cargo build`, and nothing is built twice.
            command.env_remove("LIBTORCH");
        }
        command
    }
}

pub fn prepare(workspace: &Workspace) -> Result<Environment> {
    heading("Set-up");
    compiler::check()?;
    let choice = Choice::new(|name| env::var_os(name), workspace)?;
    match &choice {
        Choice::Managed => libtorch::prepare(workspace)?,
        own => own::check(own)?,
    }
    let python = python::prepare(workspace)?;
    Ok(Environment { choice, python })
}
