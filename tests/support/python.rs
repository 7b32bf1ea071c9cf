//! The Python that reads our files and pages.

use std::path::{Path, PathBuf};

/// The one that `HESSIAN_PROBE_PYTHON` names, or else that of `.venv` at the root of the repository.
pub fn python() -> PathBuf {
    if let Some(own) = std::env::var_os("HESSIAN_PROBE_PYTHON").filter(|own| !own.is_empty()) {
        return own.into();
    }
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let root = folders.find(|folder| folder.join("Cargo.lock").is_file()).expect("a checkout");
    let path = root.join(".venv/bin/python");
    assert!(
        path.exists(),
        "this test needs a Python with the packages of tests/python/requirements.txt: run `cargo xtask setup`, which \
         makes one in `.venv`, or let HESSIAN_PROBE_PYTHON name one"
    );
    path
}
