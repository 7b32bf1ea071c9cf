//! Checks a libtorch that the user brings, before minutes of building end in a linker's error.

use std::env::{self, consts};
use std::fs;
use std::path::Path;
use std::process::Command;

use super::choice::Choice;
use super::libtorch::VERSION;
use crate::failure::{Failure, Result};
use crate::process::capture;

pub fn check(choice: &Choice) -> Result<()> {
    let (place, version) = match choice {
        Choice::PyTorch => {
            // As torch-sys's build script does it.
            let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
            (format!("PyTorch of `{python}`"), Some(pytorch_version(python)?))
        }
        Choice::Own { lib, include } => {
            require(&lib.join("lib").join(library("torch_cpu")), lib)?;
            require(&include.join("include/torch/csrc/api/include/torch/torch.h"), include)?;
            (lib.display().to_string(), version_in(lib))
        }
        Choice::Managed => return Ok(()),
    };
    eprintln!("libtorch {}: {place} (yours)", version.as_deref().unwrap_or("of unknown version"));
    if let Some(version) = version.filter(|version| release(version) != VERSION) {
        eprintln!(
            "warning: this is libtorch {version}, but the `tch` used here was made for {VERSION}. Expect errors \
             while building; torch-sys may want LIBTORCH_BYPASS_VERSION_CHECK=1 to try at all."
        );
    }
    Ok(())
}

fn pytorch_version(python: &str) -> Result<String> {
    capture(Command::new(python).args(["-c", "import torch; print(torch.__version__)"])).map_err(|failure| {
        failure.with_advice(&format!(
            "LIBTORCH_USE_PYTORCH is set, so the PyTorch of `{python}` is asked for, but it cannot be imported. \
             Install it (pip install torch=={VERSION}), or unset LIBTORCH_USE_PYTORCH and let \
             `cargo xtask setup` download libtorch."
        ))
    })
}

fn library(name: &str) -> String {
    format!("{}{name}{}", consts::DLL_PREFIX, consts::DLL_SUFFIX)
}

fn require(file: &Path, folder: &Path) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    Err(Failure::Task(format!(
        "libtorch is expected in {}, as LIBTORCH (or LIBTORCH_LIB, LIBTORCH_INCLUDE) says, but there is no {}\n\n\
         LIBTORCH must name the folder that holds `lib` and `include`: an unpacked libtorch {VERSION}, or \
         `.../site-packages/torch` of an installed PyTorch {VERSION}. Correct it, or unset it and let \
         `cargo xtask setup` download libtorch.",
        folder.display(),
        file.display()
    )))
}

/// The version that a libtorch folder says it has: `build-version` in the C++ distribution,
/// `version.py` in Python's.
pub fn version_in(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(value.trim().trim_matches(['\'', '"']).to_owned())
}

/// `2.13.0` of `2.13.0+cu130`.
pub fn release(version: &str) -> &str {
    version.split('+').next().unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(folder: &Path) -> Choice {
        Choice::Own { lib: folder.into(), include: folder.into() }
    }

    #[test]
    fn both_distributions_tell_their_version() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(version_in(folder.path()), None);
        fs::write(folder.path().join("version.py"), "x = 1\n__version__ = '2.13.0+cu130'\ncuda = '13.0'\n")
            .unwrap();
        assert_eq!(version_in(folder.path()).as_deref().map(release), Some("2.13.0"));
        fs::write(folder.path().join("build-version"), "2.12.1+cpu\n").unwrap();
        assert_eq!(version_in(folder.path()).as_deref(), Some("2.12.1+cpu"));
    }

    #[test]
    fn a_folder_without_the_library_is_refused_with_advice() {
        let folder = tempfile::tempdir().unwrap();
        let Err(Failure::Task(message)) = check(&own(folder.path())) else { panic!("the folder is empty") };
        assert!(message.contains(&library("torch_cpu")) && message.contains("unset it"), "{message}");
    }

    #[test]
    fn another_version_is_only_warned_about() {
        let folder = tempfile::tempdir().unwrap();
        for file in [&format!("lib/{}", library("torch_cpu")), "include/torch/csrc/api/include/torch/torch.h"]
        {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(folder.path().join("build-version"), "2.12.1+cpu\n").unwrap();
        check(&own(folder.path())).unwrap();
    }
}
