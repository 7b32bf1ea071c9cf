//! A Python with TensorBoard and Selenium in `.venv`: tests read our event files back with the real reader, and our pages in
//! a real browser.
//!
//! The environment is made in place, because its scripts hold its path; a marker written last tells
//! a finished one from a half-made one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::marker::{self, State};
use super::{lock, venv};
use crate::failure::{Failure, Result};
use crate::process::{capture, run, seconds};
use crate::workspace::Workspace;

/// The part of TensorBoard that the tests use, and what drives a browser.
const IMPORT: &str = "import tensorboard.backend.event_processing.event_accumulator, selenium";

const ADVICE: &str = "\
The Python environment of the tests (.venv) could not be made. After a remedy, run the same command again.
- No network, or a proxy is needed: pip uses your usual settings (HTTPS_PROXY, pip.conf, PIP_INDEX_URL).
- The disk is full: 0.2 GB are needed.
- Or bring your own Python with the packages of tests/python/requirements.txt and
  `export HESSIAN_PROBE_PYTHON=/absolute/path/to/python`.
";

/// Returns the Python that the tests are to use.
pub fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(own) = env::var_os("HESSIAN_PROBE_PYTHON").filter(|own| !own.is_empty()) {
        let own = PathBuf::from(own);
        check(&own).map_err(|failure| {
            failure.with_advice(
                "HESSIAN_PROBE_PYTHON must name a Python with the packages of tests/python/requirements.txt. \
                 Install them there, or unset it and let `cargo xtask setup` make an environment.",
            )
        })?;
        eprintln!("Python for the tests: {} (yours)", own.display());
        return Ok(own);
    }
    let path = workspace.requirements();
    let requirements = fs::read_to_string(&path).map_err(Failure::at("read", &path))?;
    let folder = workspace.venv();
    if !is_ready(&folder, &requirements) {
        let _lock = lock::acquire(workspace)?;
        // Another process may just have done it.
        if !is_ready(&folder, &requirements) {
            create(&folder, &path, &requirements)?;
        }
    }
    let python = venv::python_of(&folder);
    eprintln!("Python for the tests: {}", python.display());
    Ok(python)
}

/// The import notices also a Python that was upgraded underneath.
fn is_ready(folder: &Path, requirements: &str) -> bool {
    marker::state(folder, requirements) == State::Finished && check(&venv::python_of(folder)).is_ok()
}

fn check(python: &Path) -> Result<()> {
    capture(Command::new(python).args(["-c", IMPORT])).map(|_| ())
}

fn create(folder: &Path, path: &Path, requirements: &str) -> Result<()> {
    match marker::state(folder, requirements) {
        State::Missing => {}
        State::Outdated => eprintln!(".venv was made from other requirements and is made anew"),
        State::Unfinished | State::Finished => eprintln!(".venv is not complete and is made anew"),
    }
    eprintln!("making the Python environment of the tests in .venv: 0.2 GB");
    let start = Instant::now();
    marker::remove(folder)?;
    let outcome = install(folder, path).and_then(|()| marker::write(folder, requirements));
    if let Err(failure) = outcome {
        // The failure is what counts; leftovers have no marker and are removed next time.
        marker::remove(folder).ok();
        return Err(failure);
    }
    eprintln!("made in {}", seconds(start.elapsed()));
    Ok(())
}

fn install(folder: &Path, requirements: &Path) -> Result<()> {
    venv::create(folder)?;
    run(venv::pip_install(folder).arg("--quiet").arg("--requirement").arg(requirements))
        .and_then(|()| check(&venv::python_of(folder)))
        .map_err(|failure| failure.with_advice(ADVICE))
}
