//! Where the walk takes place: an empty folder outside of the checkout, whose `.cargo/config.toml` cargo would find.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, process};

use crate::failure::{Failure, Result};
use crate::process::{heading, run};
use crate::workspace::Workspace;

/// Removed at the end, with what was built in it.
pub struct Desk(PathBuf);

impl Desk {
    pub fn new(workspace: &Workspace) -> Result<Self> {
        let folder = env::temp_dir().join(format!("hessian-probe-newcomer-{}", process::id()));
        fs::create_dir(&folder).map_err(Failure::at("make", &folder))?;
        let desk = Self(folder);
        heading("A clone of what is committed");
        let mut git = Command::new("git");
        run(git.args(["clone", "--quiet"]).arg(workspace.root()).arg(desk.checkout()))?;
        for (there, here) in [(workspace.torch(), ".torch"), (workspace.venv(), ".venv")] {
            let there = there.canonicalize().map_err(Failure::at("find", &there))?;
            symlink(&there, desk.checkout().join(here)).map_err(Failure::at("link", &there))?;
        }
        Ok(desk)
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The README calls it so.
    pub fn checkout(&self) -> PathBuf {
        self.0.join("hessian-probe")
    }

    pub fn package(&self) -> PathBuf {
        self.0.join("my-training")
    }

    /// A file of the package.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.package().join(file);
        let parent = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(parent).map_err(Failure::at("make", parent))?;
        fs::write(&path, text).map_err(Failure::at("write", &path))
    }

    /// A line as it is typed.
    pub fn command(&self, line: &str, folder: &Path) -> Command {
        let mut command = Command::new("sh");
        bare(command.args(["-c", line]).current_dir(folder));
        command
    }

    pub fn run(&self, line: &str, folder: &Path) -> Result<()> {
        run(&mut self.command(line, folder))
    }

    /// What it prints; its errors go to the terminal.
    pub fn capture(&self, line: &str, folder: &Path) -> Result<String> {
        let mut command = self.command(line, folder);
        let output = command
            .stderr(process::Stdio::inherit())
            .output()
            .map_err(|error| Failure::Task(format!("`{line}` could not be started: {error}")))?;
        if !output.status.success() {
            return Err(Failure::Task(format!("`{line}` failed ({})", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Variables that steer a build, those that cargo sets for this program among them; a new terminal has none.
pub fn bare(command: &mut Command) -> &mut Command {
    let names: Vec<_> = env::vars_os().map(|(name, _)| name).collect();
    for name in names.iter().filter(|name| steers_a_build(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

fn steers_a_build(name: &str) -> bool {
    // How a machine reaches the network, and how much of it a build may take, is no knowledge.
    let kept =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_BUILD_JOBS"];
    let prefixes =
        ["CARGO", "LIBTORCH", "TORCH", "HESSIAN_PROBE", "DEP_", "RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC"];
    let others = ["LD_LIBRARY_PATH", "LD_PRELOAD", "OUT_DIR", "PYTHONPATH", "VIRTUAL_ENV"];
    let starts = |all: &[&str]| all.iter().any(|prefix| name.starts_with(prefix));
    (starts(&prefixes) && !starts(&kept)) || others.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_exported_that_a_new_terminal_lacks() {
        for name in [
            "LIBTORCH",
            "LIBTORCH_USE_PYTORCH",
            "CARGO_TARGET_DIR",
            "CARGO",
            "HESSIAN_PROBE_PYTHON",
            "OUT_DIR",
        ] {
            assert!(steers_a_build(name), "{name}");
        }
        for name in ["PATH", "HOME", "HTTPS_PROXY", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "TMPDIR"]
        {
            assert!(!steers_a_build(name), "{name}");
        }
    }
}
