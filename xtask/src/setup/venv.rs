//! Python's virtual environments. pip is used in one of them only, because many systems refuse to
//! let it install elsewhere (PEP 668), and old ones come without it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Result;
use crate::process::capture;

/// The Python in a virtual environment.
pub fn python_of(venv: &Path) -> PathBuf {
    venv.join("bin/python")
}

/// Makes a virtual environment with pip.
pub fn create(venv: &Path) -> Result<()> {
    capture(clean(Command::new("python3").args(["-m", "venv"]).arg(venv))).map(|_| ()).map_err(|failure| {
        failure.with_advice(
            "Python 3 with its venv and pip modules is needed. Install it (Debian, Ubuntu: \
             `apt install python3 python3-venv`; Fedora: `dnf install python3`).",
        )
    })
}

/// `pip install` in a virtual environment, asking nobody anything.
pub fn pip_install(venv: &Path) -> Command {
    let mut command = Command::new(python_of(venv));
    command.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"]);
    clean(&mut command).stdin(Stdio::null());
    command
}

/// Without settings of the user's own Python that would lead other packages into ours, or ours
/// to other places. Where pip downloads from is left as configured.
fn clean(command: &mut Command) -> &mut Command {
    for name in ["PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"] {
        command.env_remove(name);
    }
    command
}
