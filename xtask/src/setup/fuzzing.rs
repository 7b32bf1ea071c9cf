//! What fuzzing needs beside the rest: a nightly toolchain, for the sanitizer, and cargo-fuzz. Both are installed where
//! rustup and cargo install things, since they are of use elsewhere, too.

use std::process::Command;

use crate::failure::Result;
use crate::process::{capture, heading, run};
use crate::workspace::Workspace;

pub fn prepare(workspace: &Workspace) -> Result<()> {
    heading("Set-up for fuzzing");
    capture(Command::new("rustup").arg("--version")).map_err(|failure| {
        failure.with_advice(
            "AddressSanitizer needs a nightly toolchain of Rust, and rustup is what gets it: https://rustup.rs. Where \
             it cannot be had, the property tests of `cargo xtask test` cover the same parsers, with less.",
        )
    })?;
    if capture(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])).is_err() {
        eprintln!("installing the nightly toolchain with rustup (it is used only where it is asked for)");
        run(Command::new("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]))?;
    }
    if capture(workspace.nightly_cargo().args(["fuzz", "--version"])).is_err() {
        eprintln!("installing cargo-fuzz among cargo's programs (~/.cargo/bin)");
        run(workspace.cargo().args(["install", "--locked", "cargo-fuzz"]))?;
    }
    let version = capture(workspace.nightly_cargo().args(["fuzz", "--version"]))?;
    eprintln!(
        "{version}, {}",
        capture(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]))?
    );
    Ok(())
}
