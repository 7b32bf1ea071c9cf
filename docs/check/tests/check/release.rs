//! What a release takes that can be known before it: manifests, licences, dependencies, what is packaged.

use crate::page::{Page, root, spans};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::OnceLock;

/// The packages that nobody gets from a registry.
const PRIVATE: [&str; 4] = ["hessian-probe-docs", "hessian-probe-smollm2", "hessian-probe-studies", "xtask"];

/// Libraries; the rest of what is published is a program.
const LIBRARIES: [&str; 5] = [
    "hessian-probe",
    "hessian-probe-c10d",
    "hessian-probe-fsdp",
    "hessian-probe-rusttorch",
    "hessian-probe-var-store",
];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All packages, dependencies included, and what of them is switched on.
pub fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let platform = "--filter-platform=x86_64-unknown-linux-gnu";
        let text = cargo(&["metadata", "--offline", "--locked", "--format-version", "1", platform]);
        serde_json::from_str(&text).unwrap()
    })
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().unwrap().iter()
}

fn own(metadata: &Value) -> Vec<&Value> {
    let members = metadata["workspace_members"].as_array().unwrap();
    packages(metadata).filter(|package| members.contains(&package["id"])).collect()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

fn is_published(package: &Value) -> bool {
    package["publish"].is_null()
}

#[test]
fn every_crate_says_what_a_registry_shows() {
    let metadata = metadata();
    let mut published = Vec::new();
    let mut private = Vec::new();
    for package in own(metadata) {
        let name = name(package);
        let words = |key: &str| package[key].as_array().unwrap().len();
        let said = |key: &str| package[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(said("description") && said("license") && said("rust_version"), "{name}");
        if !is_published(package) {
            private.push(name);
            continue;
        }
        published.push(name);
        assert!(said("repository") && said("readme"), "{name}");
        assert!(
            (1..=5).contains(&words("keywords")) && words("categories") > 0,
            "{name}: keywords, categories"
        );
        let listed = cargo(&["package", "--list", "--allow-dirty", "--offline", "-p", name]);
        for file in ["Cargo.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(listed.lines().any(|line| line == file), "the package of {name} has no {file}");
        }
        // Tests use files and packages that stay here.
        let tests = listed.lines().find(|line| line.starts_with("tests/"));
        assert_eq!(tests, None, "in the package of {name}");
    }
    private.sort_unstable();
    assert_eq!(private, PRIVATE);
    let steps = fs::read_to_string(root().join("xtask/src/test.rs")).unwrap();
    for name in private {
        let packaged = format!("cargo xtask test package makes a package of {name}");
        assert!(steps.contains(&format!("\"--exclude={name}\"")), "{packaged}");
    }
    assert_eq!(published.len(), LIBRARIES.len() + 1, "{published:?}");
}

#[test]
fn all_crates_have_one_version_and_depend_on_it() {
    let metadata = metadata();
    let packages = own(metadata);
    let version = packages[0]["version"].as_str().unwrap();
    for package in &packages {
        assert_eq!(package["version"], version, "{}", name(package));
    }
    let manifest: toml::Table =
        toml::from_str(&fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    let dependencies = manifest["workspace"]["dependencies"].as_table().unwrap();
    let ours = dependencies.iter().filter(|(name, _)| name.starts_with("hessian-probe"));
    for (name, dependency) in ours {
        assert_eq!(dependency["version"].as_str(), Some(version), "{name}");
    }
}

/// What is written is held together here; that it is what runs this is seen to by `.ci/run`.
#[test]
fn the_least_supported_version_of_rust_is_the_same_everywhere() {
    let metadata = metadata();
    let least = own(metadata)[0]["rust_version"].as_str().unwrap();
    for package in own(metadata) {
        assert_eq!(package["rust_version"], least, "{}", name(package));
    }
    let fuzz: toml::Table =
        toml::from_str(&fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap()).unwrap();
    assert_eq!(fuzz["package"]["rust-version"].as_str(), Some(least));
    for (page, words) in [("README.md", "Rust "), ("docs/releasing.md", "least supported version is ")] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        assert!(text.contains(&format!("{words}{least}")), "{page} does not say {least}");
    }
}

#[test]
fn ci_does_not_run_with_another_rust_than_the_least_supported() {
    let least = own(metadata())[0]["rust_version"].as_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    // A newer Rust, and no way to get another, nor anything else.
    let programs = [
        ("rustc", "echo 'rustc 1.999.0 (0123456 2099-01-01)'"),
        ("cargo", ""),
        ("rustup", "exit 1"),
        ("apt-get", "exit 1"),
    ];
    for (program, does) in programs {
        let path = directory.path().join(program);
        fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(root().join(".ci/run")).env("PATH", path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains(&format!("error: Rust {least}")), "{said}");
}

/// What `cargo deny check licenses` asks, by its own list and its own reader of expressions.
#[test]
fn licences_of_all_dependencies_are_allowed() {
    let deny: toml::Table = toml::from_str(&fs::read_to_string(root().join("deny.toml")).unwrap()).unwrap();
    let allowed: Vec<&str> = deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|licence| licence.as_str().unwrap())
        .collect();
    let metadata = metadata();
    let mut checked = 0;
    for package in packages(metadata) {
        let place = format!("{} {}", name(package), package["version"]);
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{place} names no licence"));
        let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX);
        let expression = expression.unwrap_or_else(|error| panic!("{place}: {error}"));
        let fits = expression.evaluate(|term| {
            term.license.id().is_some_and(|id| allowed.contains(&id.name)) && term.exception.is_none()
        });
        assert!(fits, "{place}: {licence}, and deny.toml allows only {allowed:?}");
        checked += 1;
    }
    assert!(checked > 100, "{checked} packages");
}

#[test]
fn users_of_the_libraries_inherit_no_logger_no_command_line_and_no_plots() {
    for library in LIBRARIES {
        let tree = cargo(&[
            "tree",
            "--offline",
            "--locked",
            "-e",
            "normal",
            "-p",
            library,
            "--prefix",
            "none",
            "-f",
            "{p}",
        ]);
        let found: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(found.contains("tch") && found.contains("log"), "{library}: {found:?}");
        for program in ["env_logger", "clap", "indicatif", "plotters", "tokenizers", "smartcore"] {
            assert!(!found.contains(program), "{library} depends on {program}");
        }
    }
}

/// A libtorch of its own beside the user's, fetched while building: what the default features of `rusttorch` are for.
#[test]
fn nothing_downloads_a_libtorch() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let mut seen = 0;
    for package in
        packages(metadata).filter(|package| name(package).contains("torch") || name(package) == "tch")
    {
        let node = nodes.iter().find(|node| node["id"] == package["id"]).unwrap();
        let features = node["features"].as_array().unwrap();
        assert!(
            !features.iter().any(|feature| feature == "download-libtorch"),
            "{}: {features:?}",
            name(package)
        );
        seen += 1;
    }
    assert!(seen >= 4, "{seen} packages");
}

/// The packages of a row with its feature; all libraries, where none is named.
fn named(packages: &[String], feature: &str) -> Vec<(String, String)> {
    let all = LIBRARIES.map(str::to_owned);
    let packages = if packages.is_empty() { &all } else { packages };
    packages.iter().map(|package| (package.clone(), feature.to_owned())).collect()
}

#[test]
fn every_feature_is_documented() {
    let metadata = metadata();
    let page = Page::read("docs/releasing.md");
    let table =
        page.tables.iter().find(|table| table.rows[0][1] == "feature").expect("the table of features");
    let documented: BTreeSet<(String, String)> =
        table.rows[1..].iter().flat_map(|row| named(&spans(&row[0]), &spans(&row[1]).concat())).collect();
    let mut there = BTreeSet::new();
    for package in own(metadata) {
        let features = package["features"].as_object().unwrap().keys();
        there.extend(features.map(|feature| (name(package).to_owned(), feature.clone())));
    }
    assert_eq!(documented, there);
}
