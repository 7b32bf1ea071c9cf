//! `cargo xtask soak`: a training to which faults happen must equal one that nothing disturbed. Figures go to
//! `target/soak/`.

use std::ffi::OsString;

use crate::failure::Result;
use crate::process::{heading, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let environment = setup::prepare(workspace)?;

    heading("Build (some minutes the first time)");
    run_command(environment.cargo(workspace).args(["build", "--example", "soak"]))?;

    heading("Soak test");
    run_command(
        environment.cargo(workspace).args(["run", "--quiet", "--example", "soak", "--"]).args(arguments),
    )
}
