//! What the benchmarks have in common: each measures its cases in processes of their own, which it starts itself.
//!
//! - [`lent`]: a model that is only looked at;
//! - `worker`: those processes, and the line with which they tell what they found;
//! - [`memory`]: what a process takes.

#[allow(dead_code, reason = "no benchmark uses all of it")]
pub mod lent;
pub mod memory;
mod worker;

pub use memory::MALLOC;
pub use worker::{group, measure, tell};

use clap::Parser;
use std::path::{Path, PathBuf};

/// Any error ends the benchmark.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// `None` where nothing is to be measured: `cargo test --all-targets` runs these programs, too, without `--bench` and with
/// arguments that are not ours.
pub fn from_arguments<T: Parser>(name: &str, command: &str) -> Option<T> {
    let ours = |argument: String| argument == "--bench" || argument == "--worker";
    if std::env::args().any(ours) {
        Some(T::parse())
    } else {
        println!("{name} measures under `cargo bench` (or `{command}`) only");
        None
    }
}

/// Makes `target/bench`, where reports go.
pub fn directory() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
