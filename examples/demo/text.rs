//! Text to train on.

use std::error::Error;
use std::path::PathBuf;

/// Where Cargo keeps the sources of dependencies: text that every machine that built this has.
pub fn sources_of_dependencies() -> Result<PathBuf, Box<dyn Error>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let sources = home.map(|home| home.join("registry/src")).filter(|sources| sources.is_dir());
    sources
        .ok_or_else(|| "no sources under Cargo's registry; name a directory with .rs files by --text".into())
}
