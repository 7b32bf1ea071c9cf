//! What the demo's model is trained on in a study: the sources of three dependencies in the versions of the lock file,
//! the same bytes on every machine.

use crate::Result;
use crate::text::sources_of_dependencies;
use hessian_probe_fsdp::CorpusConfig;
use std::fs;
use std::path::Path;

const LOCK: &str = include_str!("../../Cargo.lock");
const CRATES: [&str; 3] = ["nalgebra", "regex-automata", "serde_json"];

/// Copies them into `directory`, which the demo's `--text` may then name.
///
/// # Errors
/// Where Cargo's registry does not hold them.
pub fn copy(directory: &Path) -> Result<()> {
    let registry = sources_of_dependencies()?;
    for name in CRATES {
        let package =
            format!("{name}-{}", version(LOCK, name).ok_or(format!("{name} is not in Cargo.lock"))?);
        let indices = fs::read_dir(&registry).map_err(|error| format!("{}: {error}", registry.display()))?;
        let mut places = indices.filter_map(|index| Some(index.ok()?.path().join(&package)));
        let source = places.find(|place| place.is_dir());
        let source =
            source.ok_or_else(|| format!("{} has no {package}; run `cargo fetch`", registry.display()))?;
        copy_sources(&source.join("src"), &directory.join(package))?;
    }
    Ok(())
}

/// The last `length` bytes of them, in the order of their paths: of the part that the demo keeps for validation.
///
/// # Errors
/// Where there are fewer.
pub fn tail(directory: &Path, length: usize) -> Result<Vec<u8>> {
    let bytes = CorpusConfig::new(directory).bytes()?;
    let start = bytes.len().checked_sub(length).ok_or("the sources are shorter than what is asked for")?;
    Ok(bytes[start..].to_vec())
}

fn version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    after.split('"').next()
}

fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_sources(&entry.path(), &target)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_those_of_the_lock_file() {
        let lock = "[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\n\n[[package]]\nname = \"serde_json\"\nversion = \"1.0.2\"\n";
        assert_eq!(version(lock, "serde_json"), Some("1.0.2"));
        assert_eq!(version(lock, "toml"), None);
        for name in CRATES {
            assert!(version(LOCK, name).is_some(), "{name}");
        }
    }
}
