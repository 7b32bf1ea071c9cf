//! `cargo xtask study NAME`: longer measurements, of which pages of the docs report. They go to `target/studies/NAME/`.

use std::ffi::OsString;

use crate::failure::{Failure, Result};
use crate::process::{heading, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

/// What `studies/` knows.
const NAMES: [&str; 5] = ["blocks", "peers", "regimes", "scaling", "stability"];

/// The one that measures others' libraries, too.
const OF_PEERS: &str = "peers";

/// The one whose figures are times of this crate's own loops: they are optimised as in a release, with all they call. It starts
/// no other program.
const OF_TIMES: &str = "scaling";

/// Those of them that probe SmolLM2-135M.
const OF_SMOLLM2: [&str; 2] = ["blocks", "regimes"];

/// The study, and the programs that it starts: they lie beside it in the target directory. Built together, so that
/// the features of what they share are the same and nothing is built twice.
const BUILD: [&str; 7] = [
    "build",
    "--package=hessian-probe-studies",
    "--package=hessian-probe-cli",
    "--package=hessian-probe",
    "--bins",
    "--example",
    "demo",
];

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let name = name(arguments)?;
    let environment = setup::prepare(workspace)?;
    let gguf = if OF_SMOLLM2.contains(&name) { Some(setup::smollm2(workspace)?) } else { None };
    let python = if name == OF_PEERS { Some(setup::peers(workspace)?) } else { None };

    heading("Build (some minutes the first time)");
    let (profile, build): (&[&str], &[&str]) =
        if name == OF_TIMES { (&["--release"], &BUILD[..2]) } else { (&[], &BUILD) };
    run_command(environment.cargo(workspace).args(build).args(profile))?;

    heading(&format!("Study: {name}"));
    let mut study = environment.cargo(workspace);
    study.args(["run", "--quiet", "--package", "hessian-probe-studies"]).args(profile).args(["--", name]);
    if let Some(gguf) = gguf {
        study.arg("--gguf").arg(gguf);
    }
    if let Some(python) = python {
        study.arg("--python").arg(python);
    }
    run_command(study.args(&arguments[1..]))
}

fn name(arguments: &[OsString]) -> Result<&'static str> {
    let known = NAMES.join(", ");
    let Some(argument) = arguments.first() else {
        return Err(Failure::Usage(format!("which study? There are: {known}")));
    };
    let name = NAMES.into_iter().find(|name| argument == name);
    name.ok_or_else(|| Failure::Usage(format!("no study `{}`; there are: {known}", argument.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_is_known_by_its_name() {
        assert_eq!(name(&["blocks".into(), "--reuse".into()]).unwrap(), "blocks");
        assert!(OF_SMOLLM2.iter().all(|name| NAMES.contains(name)));
        for wrong in [&[][..], &["--reuse".into()], &["block".into()]] {
            assert!(matches!(name(wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }
}
