//! `cargo xtask demo`: trains a language model with a probe registered: a small one from the start, or
//! SmolLM2-135M on from where others left it.

use std::ffi::OsString;

use crate::failure::{Failure, Result};
use crate::process::{heading, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

#[derive(Debug, PartialEq, Eq)]
enum Model {
    /// Bytes for tokens, a million parameters.
    Small,
    SmolLm2,
}

pub fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let (model, arguments) = split(arguments)?;
    let environment = setup::prepare(workspace)?;
    let (target, gguf): (&[&str], _) = match model {
        Model::Small => (&["--example", "demo"], None),
        Model::SmolLm2 => (&["--package", "hessian-probe-smollm2"], Some(setup::smollm2(workspace)?)),
    };

    heading("Build (some minutes the first time)");
    run_command(environment.cargo(workspace).arg("build").args(target))?;

    heading("Demo");
    let mut command = environment.cargo(workspace);
    command.args(["run", "--quiet"]).args(target).arg("--");
    if let Some(gguf) = gguf {
        command.arg("--gguf").arg(gguf);
    }
    run_command(command.args(arguments))
}

/// The model, and the arguments that are the demo's own.
fn split(arguments: &[OsString]) -> Result<(Model, Vec<OsString>)> {
    let (mut model, mut others) = (Model::Small, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        let name = match text.strip_prefix("--model=") {
            Some(name) => name,
            None if text == "--model" => arguments.next().and_then(|name| name.to_str()).unwrap_or_default(),
            None => {
                others.push(argument.clone());
                continue;
            }
        };
        model = match name {
            "small" => Model::Small,
            "smollm2" => Model::SmolLm2,
            _ => return Err(Failure::Usage(format!("no model `{name}`: the models are small, smollm2"))),
        };
    }
    Ok((model, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> Result<(Model, Vec<OsString>)> {
        split(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_model_is_taken_out_of_the_demos_own_arguments() {
        let steps = vec![OsString::from("--steps"), "5".into()];
        assert_eq!(of(&["--steps", "5"]).unwrap(), (Model::Small, steps.clone()));
        assert_eq!(of(&["--model", "smollm2", "--steps", "5"]).unwrap(), (Model::SmolLm2, steps.clone()));
        assert_eq!(of(&["--steps", "5", "--model=smollm2"]).unwrap(), (Model::SmolLm2, steps));
        for wrong in [&["--model"][..], &["--model", "gpt"], &["--model="]] {
            assert!(matches!(of(wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }
}
