//! `cargo xtask bench`: what a probe costs; with `--scaling`, how that grows. Figures go to `target/bench/`. With `--peers`,
//! what others' libraries take for the same: a study, since it writes a page of the docs.

use std::ffi::OsString;

use crate::failure::Result;
use crate::process::{heading, run as run_command};
use crate::setup;
use crate::study;
use crate::workspace::Workspace;

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    if let Some(arguments) = of_peers(arguments) {
        return study::run(workspace, &arguments);
    }
    let environment = setup::prepare(workspace)?;
    let (program, arguments) = program(arguments);

    heading("Build (some minutes the first time)");
    run_command(environment.cargo(workspace).args(["bench", "--bench", program, "--no-run"]))?;

    heading("Benchmark");
    run_command(environment.cargo(workspace).args(["bench", "--bench", program, "--"]).args(arguments))
}

/// Which program measures, and the arguments that are left for it.
fn program(arguments: &[OsString]) -> (&'static str, Vec<&OsString>) {
    let scaling = arguments.iter().any(|argument| argument == "--scaling");
    let rest = arguments.iter().filter(|argument| *argument != "--scaling").collect();
    (if scaling { "scaling" } else { "probe_cost" }, rest)
}

/// The arguments of the study that `--peers` asks for, if it does.
fn of_peers(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let rest: Vec<_> = arguments.iter().filter(|argument| *argument != "--peers").cloned().collect();
    let asked = rest.len() < arguments.len();
    asked.then(|| [OsString::from("peers")].into_iter().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_a_study() {
        let arguments = ["--update-docs", "--peers"].map(OsString::from);
        assert_eq!(of_peers(&arguments).unwrap(), ["peers", "--update-docs"]);
        assert_eq!(of_peers(&arguments[..1]), None);
    }

    #[test]
    fn scaling_is_a_program_of_its_own() {
        let arguments = ["--scaling", "--sizes", "1M"].map(OsString::from);
        assert_eq!(program(&arguments), ("scaling", vec![&arguments[1], &arguments[2]]));
        assert_eq!(program(&arguments[1..]), ("probe_cost", vec![&arguments[1], &arguments[2]]));
    }
}
