//! Runs the processes.

use super::agreement::relative_error;
use super::found::{Found, Memory, Outcome, Times, parse};
use super::inputs;
use super::record::{Figures, Peer, Study};
use super::task::{CONTESTANTS, Contestant, Measure, OURS, Task};
use crate::memory::MALLOC;
use crate::models::Saved;
use crate::output::Output;
use crate::{Options, Result};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Gradients and products that are timed, in turn.
const ROUNDS: usize = 7;
/// Lanczos steps of a run.
const STEPS: usize = 12;
/// Vectors, whose curvatures estimate the trace.
const VECTORS: usize = 4;
/// PyHessian's default.
const LIMIT: usize = 100;

/// The side of Python.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/peers/measure.py");
const REQUIREMENTS: &str = include_str!("../../../benches/peers/requirements.txt");

/// Every library with every kind of product that it offers.
///
/// # Errors
/// Where ours fails, or another one's process tells nothing: what a library cannot do is no error.
pub fn run(options: &Options, output: &Output) -> Result<Study> {
    let python = options.python.as_deref().ok_or("this study needs the others' Python: --python FILE")?;
    let Saved { model, data, .. } = inputs::model(options, output)?;
    let sequences = inputs::sequences(&data)?;
    let (vectors, parameters) = inputs::write_vectors(&model, VECTORS, output)?;
    let reference = output.path("reference.safetensors");
    let mut peers = Vec::new();
    for contestant in CONTESTANTS {
        let product = if peers.is_empty() { reference.clone() } else { output.path("product.safetensors") };
        let task = |measure| Task {
            library: contestant.library.into(),
            products: contestant.products.into(),
            measure,
            model: model.clone(),
            data: data.clone(),
            vectors: vectors.clone(),
            product: product.clone(),
            rounds: ROUNDS,
            steps: STEPS,
            limit: LIMIT,
            threads: options.threads,
        };
        peers.push(peer(contestant, task, python, &reference)?);
        if product != reference && product.exists() {
            fs::remove_file(&product)?;
        }
    }
    for path in vectors.iter().chain([&reference]) {
        fs::remove_file(path)?;
    }
    Ok(Study {
        model: if options.model.is_some() { named(&model) } else { "the demo's model".into() },
        parameters,
        sequences: sequences.len(),
        tokens: sequences.first().map_or(0, |sequence| sequence.inputs.len() + 1),
        threads: options.threads,
        steps: STEPS,
        vectors: VECTORS,
        packages: packages(REQUIREMENTS),
        peers,
    })
}

fn named(model: &Path) -> String {
    model.file_name().map_or_else(|| "a model".into(), |name| name.to_string_lossy().into_owned())
}

/// One library with one kind of product.
fn peer(
    contestant: Contestant,
    task: impl Fn(Measure) -> Task,
    python: &Path,
    reference: &Path,
) -> Result<Peer> {
    let Contestant { library, products, how, attention } = contestant;
    let timed = task(Measure::Time);
    let times: Found<Times> = process(&timed, python)?;
    let outcome = match times.outcome {
        Outcome::Failed(reason) => Outcome::Failed(reason),
        Outcome::Measured(times) => {
            let memory: Found<Memory> = process(&task(Measure::Memory), python)?;
            match memory.outcome {
                Outcome::Failed(reason) => Outcome::Failed(reason),
                Outcome::Measured(memory) => {
                    let error = relative_error(&timed.product, reference)?;
                    Outcome::Measured(Figures { times, memory, error })
                }
            }
        }
    };
    let version = times.version;
    let [library, products, how, attention] = [library, products, how, attention].map(str::to_owned);
    Ok(Peer { library, version, products, how, attention, outcome })
}

/// Runs a task in a process of its own.
fn process<T: DeserializeOwned>(task: &Task, python: &Path) -> Result<Found<T>> {
    eprintln!("{}, {}: {:?}", task.library, task.products, task.measure);
    let told = serde_json::to_string(task)?;
    let mut command = if task.library == OURS {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("peers-worker");
        command
    } else {
        let mut command = Command::new(python);
        command.arg(PROGRAM);
        command
    };
    let threads = task.threads.to_string();
    command.arg(told).envs([("OMP_NUM_THREADS", &threads), ("MKL_NUM_THREADS", &threads)]);
    if task.measure == Measure::Memory {
        command.envs(MALLOC);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{}, {}: {}", task.library, task.products, output.status).into());
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The libraries and what they run on, without what these need in turn.
fn packages(requirements: &str) -> Vec<String> {
    let named = requirements.lines().take_while(|line| !line.is_empty());
    named.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_are_pinned_and_come_first() {
        let packages = packages(REQUIREMENTS);
        for library in CONTESTANTS.iter().map(|contestant| contestant.library).filter(|name| *name != OURS) {
            let pinned = |package: &&String| {
                package.starts_with(&format!("{library}=="))
                    || package.starts_with(&format!("{library}-for-pytorch=="))
            };
            assert!(packages.iter().any(|package| pinned(&package)), "{library}: {packages:?}");
        }
        for line in REQUIREMENTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            assert!(line.contains("=="), "{line} is not pinned");
        }
    }
}
