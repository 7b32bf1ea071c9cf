//! `cargo xtask bench`: what a probe costs. Figures go to `target/bench/`.

use std::ffi::OsString;

use crate::failure::Result;
use crate::process::{heading, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let environment = setup::prepare(workspace)?;

    heading("Build (some minutes the first time)");
    run_command(environment.cargo(workspace).args(["bench", "--bench", "probe_cost", "--no-run"]))?;

    heading("Benchmark");
    run_command(environment.cargo(workspace).args(["bench", "--bench", "probe_cost", "--"]).args(arguments))
}
