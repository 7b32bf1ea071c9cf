//! Where things lie in the repository, and how cargo is called.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};

pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Cargo says at run time where xtask's manifest lies. The path known at compile time would be
    /// wrong in a checkout that was moved, or whose build folder came from elsewhere.
    pub fn find() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        match manifest.as_deref().and_then(Path::parent) {
            Some(root) => Ok(Self::at(root)),
            None => Err(Failure::task("start this program as `cargo xtask`, so that it knows the workspace")),
        }
    }

    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that libtorch's packages are installed in.
    pub fn torch(&self) -> PathBuf {
        self.root.join(".torch")
    }

    /// What `[env]` in `.cargo/config.toml` sets LIBTORCH to.
    pub fn libtorch(&self) -> PathBuf {
        self.torch().join("torch")
    }

    /// Everything that is half made lies here, never in [`Self::torch`].
    pub fn torch_partial(&self) -> PathBuf {
        self.root.join(".torch.partial")
    }

    /// Models that were downloaded.
    pub fn models(&self) -> PathBuf {
        self.root.join(".models")
    }

    pub fn models_partial(&self) -> PathBuf {
        self.root.join(".models.partial")
    }

    pub fn smollm2_requirements(&self) -> PathBuf {
        self.root.join("examples/smollm2/requirements.txt")
    }

    pub fn venv(&self) -> PathBuf {
        self.root.join(".venv")
    }

    pub fn requirements(&self) -> PathBuf {
        self.root.join("tests/python/requirements.txt")
    }

    /// That of the libraries that we are compared with.
    pub fn peers_venv(&self) -> PathBuf {
        self.root.join(".venv-peers")
    }

    pub fn peers_requirements(&self) -> PathBuf {
        self.root.join("benches/peers/requirements.txt")
    }

    /// The crate with the fuzz targets, a workspace of its own.
    pub fn fuzz(&self) -> PathBuf {
        self.root.join("fuzz")
    }

    /// That of the nightly toolchain, in the root for the same reason.
    pub fn nightly_cargo(&self) -> Command {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", "cargo"]).current_dir(&self.root);
        command
    }

    /// The cargo that started us, in the root, whose `.cargo/config.toml` it then reads.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }
}
