//! `cargo xtask bench`: what a probe costs; figures go to `target/bench/`. With `--scaling`, how that grows, and with `--peers`,
//! what others' libraries take for the same: these two are studies, since they write pages of the docs.

use std::ffi::OsString;

use crate::failure::Result;
use crate::process::{heading, run as run_command};
use crate::setup;
use crate::study;
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    if let Some(arguments) = of_study(arguments) {
        return study::run(workspace, &arguments);
    }
    let environment = setup::prepare(workspace)?;

    heading("Build (some minutes the first time)");
    run_command(environment.cargo(workspace).args(["bench", "--bench", "probe_cost", "--no-run"]))?;

    heading("Benchmark");
    run_command(environment.cargo(workspace).args(["bench", "--bench", "probe_cost", "--"]).args(arguments))
}

/// The arguments of the study that `--peers` or `--scaling` asks for, if one does.
fn of_study(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (name, flag) = [("peers", "--peers"), ("scaling", "--scaling")]
        .into_iter()
        .find(|(_, flag)| arguments.iter().any(|argument| argument == flag))?;
    let rest = arguments.iter().filter(|argument| *argument != flag).cloned();
    Some([OsString::from(name)].into_iter().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_and_scaling_are_studies() {
        let arguments = ["--update-docs", "--peers"].map(OsString::from);
        assert_eq!(of_study(&arguments).unwrap(), ["peers", "--update-docs"]);
        assert_eq!(of_study(&arguments[..1]), None);
        let arguments = ["--scaling", "--sizes", "1M"].map(OsString::from);
        assert_eq!(of_study(&arguments).unwrap(), ["scaling", "--sizes", "1M"]);
    }
}
