//! Where targets put the files that parsers open.

use std::fs;
use std::path::{Path, PathBuf};

/// A directory of this process in the temporary one (`TMPDIR`), which `cargo xtask fuzz` puts into memory and removes:
/// libFuzzer ends a process without its destructors.
#[must_use]
pub fn directory() -> PathBuf {
    let path = std::env::temp_dir().join(format!("hessian-probe-fuzz-{}", std::process::id()));
    fs::create_dir_all(&path).expect("a temporary directory");
    path
}

/// Writes a file and whatever directories it needs.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a directory");
    }
    fs::write(path, contents).expect("a file");
}

/// Empties a directory.
pub fn clear(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).expect("a directory");
}

/// An error must say which file it is about: one in `directory`, or the directory.
pub fn assert_names(error: &dyn std::error::Error, directory: &Path) {
    let text = error.to_string();
    assert!(text.contains(&*directory.to_string_lossy()), "no path in: {text}");
}
