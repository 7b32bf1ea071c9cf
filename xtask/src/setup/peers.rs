//! A Python with the libraries that `bench --peers` compares us with, in `.venv-peers`, apart from that of the tests: it
//! holds PyTorch, and nothing but that benchmark needs it.

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

const IMPORT: &str = "import transformers, hessian_eigenthings, curvlinops, pyhessian, torch";

const ADVICE: &str = "\
The Python environment of the peers (.venv-peers) could not be made. After a remedy, run the same command again.
- No network, or a proxy is needed: pip uses your usual settings (HTTPS_PROXY, pip.conf, PIP_INDEX_URL).
- The disk is full: about 8 GB are needed while unpacking, 5 GB afterwards.
- \"No matching distribution\": the versions are those for Python 3.11 or later on x86_64.
- Or bring your own Python with the packages of benches/peers/requirements.txt (a PyTorch without CUDA is smaller) and
  `export HESSIAN_PROBE_PEERS_PYTHON=/absolute/path/to/python`.
";

/// Returns the Python that the benchmark is to use.
pub fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(own) = env::var_os("HESSIAN_PROBE_PEERS_PYTHON").filter(|own| !own.is_empty()) {
        let own = PathBuf::from(own);
        check(&own).map_err(|failure| {
            failure.with_advice(
                "HESSIAN_PROBE_PEERS_PYTHON must name a Python with the packages of benches/peers/requirements.txt. \
                 Install them there, or unset it and let `cargo xtask bench --peers` make an environment.",
            )
        })?;
        eprintln!("Python of the peers: {} (yours)", own.display());
        return Ok(own);
    }
    let path = workspace.peers_requirements();
    let requirements = fs::read_to_string(&path).map_err(Failure::at("read", &path))?;
    let folder = workspace.peers_venv();
    if !is_ready(&folder, &requirements) {
        let _lock = lock::acquire(workspace)?;
        // Another process may just have done it.
        if !is_ready(&folder, &requirements) {
            create(&folder, &path, &requirements)?;
        }
    }
    let python = venv::python_of(&folder);
    eprintln!("Python of the peers: {}", python.display());
    Ok(python)
}

/// The import takes seconds, and the benchmark does it anyway.
fn is_ready(folder: &Path, requirements: &str) -> bool {
    marker::state(folder, requirements) == State::Finished && venv::python_of(folder).exists()
}

fn check(python: &Path) -> Result<()> {
    capture(Command::new(python).args(["-c", IMPORT])).map(|_| ())
}

fn create(folder: &Path, path: &Path, requirements: &str) -> Result<()> {
    eprintln!("making the Python environment of the peers in .venv-peers: 3 GB to download, 5 GB on disk");
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

/// The file is a lock: it names all packages, also those that others need, and leaves out what no part of the benchmark
/// imports.
fn install(folder: &Path, requirements: &Path) -> Result<()> {
    venv::create(folder)?;
    let mut pip = venv::pip_install(folder);
    pip.args(["--quiet", "--no-compile", "--no-deps", "--only-binary=:all:", "--requirement"])
        .arg(requirements);
    run(&mut pip)
        .and_then(|()| check(&venv::python_of(folder)))
        .map_err(|failure| failure.with_advice(ADVICE))
}
