//! libtorch from Python's package index into `.torch`.
//!
//! Downloaded and checked in `.torch.partial`, then renamed: `.torch` appears complete or not at all,
//! whatever interrupts us.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::marker::{self, State};
use super::{lock, own, venv};
use crate::failure::{Failure, Result};
use crate::process::{run, seconds};
use crate::workspace::Workspace;

/// What `tch` wants.
pub const VERSION: &str = "2.13.0";

/// `libtorch_cpu.so` of this wheel loads the two libraries of CUDA also where there is no GPU. The
/// rest of CUDA, some gigabytes, it does not load: hence `--no-deps`.
const PACKAGES: [&str; 3] = ["torch==2.13.0", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

/// Wheels are made for one version of Python each, but differ only in a part that we do not use.
/// Naming one makes us independent of the version on this machine.
const WHEELS_OF: [&str; 4] =
    ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12", "--abi=cp312"];

/// One file for everything that must be there.
const FILES: [&str; 6] = [
    "torch/lib/libtorch.so",
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/include/torch/csrc/api/include/torch/torch.h",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
];

const ADVICE: &str = "\
libtorch could not be downloaded. Nothing half-made was left behind; after a remedy, run the same command again.
- No network, or a proxy is needed: pip uses your usual settings (HTTPS_PROXY, pip.conf, PIP_INDEX_URL).
- The disk is full: about 3 GB are needed while unpacking, 1.2 GB afterwards.
- \"No matching distribution\": there are wheels for Linux with glibc on x86_64 and aarch64; a pip that is very
  old may not see them.
- Or bring libtorch 2.13.0 yourself (https://pytorch.org/get-started/locally, language C++) and
  `export LIBTORCH=/absolute/path/to/libtorch`: the folder with `lib` and `include`.
";

pub fn prepare(workspace: &Workspace) -> Result<()> {
    if !is_ready(&workspace.torch()) {
        let _lock = lock::acquire(workspace)?;
        // Another process may just have done it.
        if !is_ready(&workspace.torch()) {
            download(workspace)?;
        }
    }
    eprintln!("libtorch {VERSION}: {}", workspace.libtorch().display());
    Ok(())
}

fn made_from() -> String {
    PACKAGES.join("\n") + "\n"
}

fn is_ready(torch: &Path) -> bool {
    marker::state(torch, &made_from()) == State::Finished && missing_file(torch).is_none()
}

fn missing_file(torch: &Path) -> Option<&'static str> {
    FILES.into_iter().find(|file| !torch.join(file).exists())
}

fn download(workspace: &Workspace) -> Result<()> {
    check_platform(std::env::consts::OS, std::env::consts::ARCH, cfg!(target_env = "musl"))?;
    match marker::state(&workspace.torch(), &made_from()) {
        State::Missing => {}
        State::Outdated => eprintln!(".torch holds other versions than those pinned now and is replaced"),
        State::Unfinished | State::Finished => eprintln!(".torch is not complete and is replaced"),
    }
    eprintln!(
        "downloading libtorch {VERSION} into .torch: 540 MB, then 1.2 GB on disk; a minute or a few \
         (to use your own instead, export LIBTORCH)"
    );
    let start = Instant::now();
    let partial = workspace.torch_partial();
    marker::remove(&partial)?;
    // A folder of our own: a pip that survived its xtask could still write into the old one.
    let folder = partial.join(std::process::id().to_string());
    let outcome = install(&folder).and_then(|()| publish(&folder, &workspace.torch()));
    // What failed is reported; that there are leftovers, too, the next run sees for itself.
    let removed = marker::remove(&partial);
    outcome?;
    removed?;
    eprintln!("downloaded in {}", seconds(start.elapsed()));
    Ok(())
}

/// Installs the packages into `folder/packages`, checks them and marks them as complete.
fn install(folder: &Path) -> Result<()> {
    let (pip, packages, temporary) = (folder.join("pip"), folder.join("packages"), folder.join("tmp"));
    for path in [&packages, &temporary] {
        fs::create_dir_all(path).map_err(Failure::at("create", path))?;
    }
    let instead =
        format!("Or bring libtorch {VERSION} yourself and export LIBTORCH: see `cargo xtask help`.");
    venv::create(&pip).map_err(|failure| failure.with_advice(&instead))?;
    let mut command = venv::pip_install(&pip);
    command.args(["--no-deps", "--no-compile"]).args(WHEELS_OF).arg("--target").arg(&packages).args(PACKAGES);
    // pip unpacks there before it moves things: /tmp may be small, and elsewhere moving is copying.
    command.env("TMPDIR", &temporary);
    run(&mut command).map_err(|failure| failure.with_advice(ADVICE))?;
    verify(&packages).map_err(|failure| failure.with_advice(ADVICE))?;
    marker::write(&packages, &made_from())
}

fn verify(packages: &Path) -> Result<()> {
    if let Some(file) = missing_file(packages) {
        return Err(Failure::Task(format!("pip reported success, but {file} is missing")));
    }
    match own::version_in(&packages.join("torch")) {
        Some(version) if own::release(&version) == VERSION => Ok(()),
        version => Err(Failure::Task(format!("pip installed libtorch {version:?} instead of {VERSION}"))),
    }
}

/// Puts the packages in the place of what was there.
fn publish(folder: &Path, torch: &Path) -> Result<()> {
    if torch.symlink_metadata().is_ok() {
        fs::rename(torch, folder.join("replaced")).map_err(Failure::at("move away", torch))?;
    }
    fs::rename(folder.join("packages"), torch).map_err(Failure::at("create", torch))
}

fn check_platform(system: &str, architecture: &str, musl: bool) -> Result<()> {
    if system == "linux" && !musl && matches!(architecture, "x86_64" | "aarch64") {
        return Ok(());
    }
    let libc = if musl { " with musl" } else { "" };
    Err(Failure::Task(format!(
        "libtorch is downloaded only for Linux with glibc on x86_64 and aarch64; this is {system}{libc} on \
         {architecture}\n\nInstall libtorch {VERSION} yourself (https://pytorch.org/get-started/locally, \
         language C++, or `pip install torch=={VERSION}`) and export LIBTORCH: the absolute path of the folder \
         with `lib` and `include`."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(folder: &Path) {
        for file in FILES {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(folder.join("torch/version.py"), format!("__version__ = '{VERSION}+cu130'\n")).unwrap();
    }

    #[test]
    fn the_version_is_pinned_in_one_way() {
        assert_eq!(PACKAGES[0], format!("torch=={VERSION}"));
        assert!(ADVICE.contains(VERSION));
    }

    #[test]
    fn only_a_marked_and_whole_folder_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        complete(folder.path());
        assert!(!is_ready(folder.path()), "no marker");
        marker::write(folder.path(), &made_from()).unwrap();
        assert!(is_ready(folder.path()));
        fs::remove_file(folder.path().join("torch/lib/libtorch_cpu.so")).unwrap();
        assert!(!is_ready(folder.path()), "a file was lost");
    }

    #[test]
    fn other_pins_are_not_ready() {
        let folder = tempfile::tempdir().unwrap();
        complete(folder.path());
        marker::write(folder.path(), &made_from().replace("13.0.96", "13.0.95")).unwrap();
        assert!(!is_ready(folder.path()));
    }

    #[test]
    fn what_pip_installed_is_verified() {
        let folder = tempfile::tempdir().unwrap();
        complete(folder.path());
        verify(folder.path()).unwrap();
        fs::write(folder.path().join("torch/version.py"), "__version__ = '2.12.1'\n").unwrap();
        let Err(Failure::Task(message)) = verify(folder.path()) else { panic!("a wrong version") };
        assert!(message.contains("2.12.1"), "{message}");
    }

    #[test]
    fn other_platforms_are_told_what_to_do() {
        check_platform("linux", "x86_64", false).unwrap();
        check_platform("linux", "aarch64", false).unwrap();
        for (system, architecture, musl) in
            [("macos", "aarch64", false), ("linux", "x86_64", true), ("linux", "riscv64", false)]
        {
            let Err(Failure::Task(message)) = check_platform(system, architecture, musl) else {
                panic!("{system} on {architecture}");
            };
            assert!(message.contains("export LIBTORCH"), "{message}");
        }
    }

    #[test]
    fn publishing_replaces_what_was_there() {
        let root = tempfile::tempdir().unwrap();
        let (torch, folder) = (root.path().join(".torch"), root.path().join("partial"));
        fs::create_dir_all(torch.join("old")).unwrap();
        fs::create_dir_all(folder.join("packages/new")).unwrap();
        publish(&folder, &torch).unwrap();
        assert!(torch.join("new").exists() && !torch.join("old").exists());
    }
}
