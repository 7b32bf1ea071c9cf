//! `cargo xtask demo`: trains a small language model with a probe registered.

use std::ffi::OsString;

use crate::failure::Result;
use crate::process::{heading, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let environment = setup::prepare(workspace)?;

    heading("Build (some minutes the first time)");
    run_command(environment.cargo(workspace).args(["build", "--example", "demo"]))?;

    heading("Demo");
    run_command(
        environment.cargo(workspace).args(["run", "--quiet", "--example", "demo", "--"]).args(arguments),
    )
}
