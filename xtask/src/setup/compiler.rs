//! torch-sys and `hooks/c10d` compile some C++. Better to miss the compiler now than after the
//! download.

use std::env;
use std::process::Command;

use crate::failure::Result;
use crate::process::capture;

pub fn check() -> Result<()> {
    // CXX may hold arguments or a wrapper such as ccache: only its first word is a program.
    let chosen = env::var("CXX").unwrap_or_default();
    let compiler = chosen.split_whitespace().next().unwrap_or("c++");
    match capture(Command::new(compiler).arg("--version")) {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.with_advice(&format!(
            "A C++17 compiler is needed, and `{compiler}` does not run. Install one (Debian, Ubuntu: \
             `apt install g++`; Fedora: `dnf install gcc-c++`), or set CXX to yours."
        ))),
    }
}
