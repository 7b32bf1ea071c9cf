//! The README's way to a loop of one's own, walked: a package outside of the workspace made of nothing but its blocks.

use crate::page::{Page, root};
use crate::python::python;
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FILES: [&str; 5] = [".cargo/config.toml", "Cargo.toml", "build.rs", "probe.toml", "src/main.rs"];

/// What a reader's terminal has; nothing that cargo set for this test, and no LD_LIBRARY_PATH.
const KEPT: [&str; 15] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTFLAGS",
    "CC",
    "CXX",
    "LIBTORCH",
    "LIBTORCH_LIB",
    "LIBTORCH_INCLUDE",
    "LIBTORCH_CXX11_ABI",
    "LIBTORCH_USE_PYTORCH",
    "LIBTORCH_BYPASS_VERSION_CHECK",
];

/// The files that the README shows, by name.
fn files() -> BTreeMap<String, String> {
    let blocks = Page::read("README.md").blocks.into_iter();
    blocks.filter_map(|block| Some((block.file?, block.text))).collect()
}

/// A folder with a checkout, by a link, and beside it the reader's package. Always at the same place, so that cargo finds
/// what it built for it the last time.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Self {
        let mut hasher = DefaultHasher::new();
        let checkout = root().canonicalize().unwrap();
        checkout.hash(&mut hasher);
        let desk = env::temp_dir().join(format!("hessian-probe-newcomer-{:016x}", hasher.finish()));
        let _ = fs::remove_dir_all(&desk);
        fs::create_dir_all(&desk).unwrap();
        symlink(&checkout, desk.join("hessian-probe")).unwrap();
        Self(desk)
    }

    fn package(&self) -> PathBuf {
        self.0.join("my-training")
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.package().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `cargo run`, but with what makes it use this build's libtorch, bindings and packages: a test has no minutes to build
    /// them again, and perhaps no network.
    fn cargo_run(&self) -> Output {
        let mut command = Command::new(env!("CARGO"));
        command.args(["run", "--quiet", "--offline", "--config"]).arg(self.0.join("profile.toml"));
        command.current_dir(self.package()).env_clear();
        command.envs(KEPT.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap());
        command.output().unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the real TensorBoard finds in a directory.
fn events(directory: &Path) -> serde_json::Value {
    let script = root().join("tests/python/read_events.py");
    let output = Command::new(python()).arg(script).arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_loop_of_one_s_own_made_of_the_readme_s_blocks_is_seen_in_tensorboard() {
    let files = files();
    assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), FILES);
    let desk = Desk::new();
    for (file, text) in &files {
        desk.write(file, text);
    }
    desk.write("Cargo.lock", &fs::read_to_string(root().join("Cargo.lock")).unwrap());
    let manifest: toml::Table =
        toml::from_str(&fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    let profile = toml::Table::from_iter([("profile".to_owned(), manifest["profile"].clone())]);
    fs::write(desk.0.join("profile.toml"), profile.to_string()).unwrap();

    let output = desk.cargo_run();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    // `step 200: λ_max 1.234 ± 0.005, trace 6.789`
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(words.len() == 8 && words[..3] == ["step", "200:", "λ_max"], "{said}");
    let shown: f64 = words[3].parse().unwrap();

    let found = events(&desk.package().join("runs/mine"));
    let of =
        |tag: &str| found["run"]["tensors"][tag].as_array().unwrap_or_else(|| panic!("no {tag}")).clone();
    let steps = |points: &[serde_json::Value]| {
        points.iter().map(|point| point[0].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let maxima = of("curvature/lambda_max");
    assert_eq!(steps(&maxima), [0, 50, 100, 150, 200]);
    let last = maxima[4][1].as_f64().unwrap();
    assert!(
        shown > 0.0 && (last - shown).abs() <= 5e-4 + 1e-6 * shown,
        "{last} in TensorBoard, {shown} on the terminal"
    );
    for tag in ["curvature/trace", "curvature_error/trace", "spectrum/density"] {
        assert_eq!(of(tag).len(), 5, "{tag}");
    }

    // What troubleshooting says of a package without its own build script.
    fs::remove_file(desk.package().join("build.rs")).unwrap();
    let output = desk.cargo_run();
    let errors = String::from_utf8_lossy(&output.stderr);
    let troubleshooting = fs::read_to_string(root().join("docs/guide/troubleshooting.md")).unwrap();
    let message = troubleshooting.split('`').find(|span| span.contains("shared libraries")).unwrap();
    assert!(!output.status.success() && errors.contains(message), "{errors}");
}

/// Where the test above uses the libtorch that it was built with, a reader's cargo goes by this file: it must name the folder
/// that the set-up fills.
#[test]
fn the_readme_s_cargo_configuration_names_the_libtorch_of_the_checkout() {
    let libtorch = |text: &str| {
        let config: toml::Table = toml::from_str(text).unwrap();
        let libtorch = config["env"]["LIBTORCH"].clone();
        assert_eq!(libtorch["relative"].as_bool(), Some(true));
        libtorch["value"].as_str().unwrap().to_owned()
    };
    let own = libtorch(&fs::read_to_string(root().join(".cargo/config.toml")).unwrap());
    assert_eq!(libtorch(&files()[".cargo/config.toml"]), format!("../hessian-probe/{own}"));
}
