//! `cargo xtask test`: everything that must pass before a commit, cheapest first.

use std::env;
use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::process::{heading, run as run_command, seconds};
use crate::setup::{self, Environment};
use crate::workspace::Workspace;

struct Step {
    name: &'static str,
    title: &'static str,
    /// Formatting can be checked on a machine that has no libtorch.
    needs_setup: bool,
    /// What takes minutes and finds little from day to day runs only where it is named.
    on_request: bool,
    arguments: &'static [&'static str],
}

/// The packages that a release would upload: all but those that are never published.
const PACKAGES: [&str; 8] = [
    "package",
    "--workspace",
    "--exclude=hessian-probe-docs",
    "--exclude=hessian-probe-smollm2",
    "--exclude=hessian-probe-studies",
    "--exclude=xtask",
    "--allow-dirty",
    "--quiet",
];

const STEPS: [Step; 10] = [
    Step {
        name: "fmt",
        title: "Format",
        needs_setup: false,
        on_request: false,
        arguments: &["fmt", "--all", "--check"],
    },
    // A workspace of its own.
    Step {
        name: "fuzz-fmt",
        title: "Format of the fuzz targets",
        needs_setup: false,
        on_request: false,
        arguments: &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"],
    },
    Step {
        name: "clippy",
        title: "Lints",
        needs_setup: true,
        on_request: false,
        arguments: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
    },
    Step {
        name: "fuzz-clippy",
        title: "Lints of the fuzz targets",
        needs_setup: true,
        on_request: false,
        arguments: &[
            "clippy",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--target-dir",
            "target",
            "--bins",
            "--",
            "-D",
            "warnings",
        ],
    },
    // Without a choice of targets this covers libraries, programs, integration tests and doc tests,
    // and builds the examples.
    Step {
        name: "test",
        title: "Tests",
        needs_setup: true,
        on_request: false,
        arguments: &["test", "--workspace"],
    },
    Step {
        name: "doc",
        title: "Documentation",
        needs_setup: true,
        on_request: false,
        arguments: &["doc", "--workspace", "--no-deps"],
    },
    Step { name: "package", title: "Packages", needs_setup: false, on_request: false, arguments: &PACKAGES },
    // Each from what is in it and nothing else, against the others' packages.
    Step {
        name: "package-verify",
        title: "Packages, built",
        needs_setup: true,
        on_request: true,
        arguments: &PACKAGES,
    },
    // What needs a real model: downloads it. A quiet machine, please: a budget of time is tested, too.
    Step {
        name: "smollm2",
        title: "SmolLM2-135M",
        needs_setup: true,
        on_request: true,
        arguments: &[
            "test",
            "--workspace",
            "--test=smollm2",
            "--test=memory",
            "--test=budget",
            "--lib",
            "--",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ],
    },
    Step {
        name: "soak",
        title: "Soak test, one minute",
        needs_setup: true,
        on_request: false,
        arguments: &["run", "--quiet", "--example", "soak", "--", "--minutes", "1"],
    },
];

impl Step {
    fn command(&self, workspace: &Workspace, environment: Option<&Environment>) -> Result<Command> {
        let mut command = match environment {
            Some(environment) => environment.cargo(workspace),
            None => workspace.cargo(),
        };
        command.args(self.arguments);
        match self.name {
            "doc" => {
                let users = env::var("RUSTDOCFLAGS").unwrap_or_default();
                command.env("RUSTDOCFLAGS", format!("{users} -D warnings").trim_start());
            }
            "package" => {
                command.arg("--no-verify");
            }
            // One folder for all of them: otherwise each package has libtorch's bindings built in one of its own.
            "package-verify" => {
                command.args(["--target-dir", "target/package-verify"]);
            }
            "smollm2" => {
                command.env("HESSIAN_PROBE_SMOLLM2", setup::smollm2(workspace)?);
            }
            _ => {}
        }
        Ok(command)
    }
}

pub fn run(workspace: &Workspace, names: &[OsString]) -> Result<()> {
    let steps = select(names)?;
    let mut summary = Vec::new();

    let environment = if steps.iter().any(|step| step.needs_setup) {
        let start = Instant::now();
        let environment = setup::prepare(workspace)?;
        summary.push(("set-up", start.elapsed()));
        Some(environment)
    } else {
        None
    };

    for step in steps {
        heading(step.title);
        let start = Instant::now();
        let outcome =
            step.command(workspace, environment.as_ref()).and_then(|mut command| run_command(&mut command));
        summary.push((step.name, start.elapsed()));
        if let Err(failure) = outcome {
            print_summary(&summary, false);
            return Err(failure.with_advice(&format!(
                "The step `{0}` failed. Alone it runs with: cargo xtask test {0}",
                step.name
            )));
        }
    }
    print_summary(&summary, true);
    Ok(())
}

/// The named steps, or all that need not be named, always in the order of [`STEPS`].
fn select(names: &[OsString]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        let known = STEPS.map(|step| step.name).join(", ");
        return Err(Failure::Usage(format!("no step `{}`: the steps are {known}", unknown.display())));
    }
    let chosen = |step: &&Step| match names {
        [] => !step.on_request,
        _ => names.iter().any(|name| step.name == name),
    };
    Ok(STEPS.iter().filter(chosen).collect())
}

fn print_summary(steps: &[(&str, Duration)], passed: bool) {
    heading("Summary");
    for (i, (name, time)) in steps.iter().enumerate() {
        let outcome = if passed || i + 1 < steps.len() { "ok" } else { "FAILED" };
        eprintln!("{name:<14}{:>14}  {outcome}", seconds(*time));
    }
    let total = steps.iter().map(|(_, time)| *time).sum();
    eprintln!("{:<14}{:>14}", "total", seconds(total));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<OsString> {
        names.iter().map(OsString::from).collect()
    }

    #[test]
    fn all_steps_run_unless_some_are_named() {
        let all: Vec<&str> = select(&[]).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(all, ["fmt", "fuzz-fmt", "clippy", "fuzz-clippy", "test", "doc", "package", "soak"]);
        assert_eq!(select(&names(&["package-verify"])).unwrap().len(), 1);
        let chosen = select(&names(&["clippy", "fmt"])).unwrap();
        assert_eq!(chosen.iter().map(|step| step.name).collect::<Vec<_>>(), ["fmt", "clippy"]);
    }

    #[test]
    fn an_unknown_step_is_named_with_the_known_ones() {
        let Err(Failure::Usage(message)) = select(&names(&["fmt", "lint"])) else {
            panic!("`lint` is no step")
        };
        assert_eq!(
            message,
            "no step `lint`: the steps are fmt, fuzz-fmt, clippy, fuzz-clippy, test, doc, package, package-verify, smollm2, soak"
        );
    }
}
