//! Commands that the pages tell readers to type: their packages, targets, files and flags are there.

use crate::page::{pages, root};
use crate::release::metadata;
use std::fs;
use std::path::Path;

/// Flags of cargo's own that pages may use.
const CARGO_FLAGS: [&str; 19] = [
    "-p",
    "-q",
    "--all-targets",
    "--bench",
    "--bin",
    "--doc",
    "--example",
    "--examples",
    "--features",
    "--lib",
    "--list",
    "--no-deps",
    "--nocapture",
    "--open",
    "--path",
    "--quiet",
    "--release",
    "--test",
    "--workspace",
];

/// Flags of a test program, which is no source of ours.
const HARNESS_FLAGS: [&str; 4] = ["--exact", "--ignored", "--include-ignored", "--nocapture"];

/// The package of the program `hessian-probe`: `cli/tests/readme.rs` asks it itself what flags each of its commands has.
const PROGRAM: &str = "hessian-probe-cli";

/// The lines of a block, continued ones joined, without comments.
fn lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    joined
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// The packages of the workspace with the folders of their manifests.
struct Workspace(&'static serde_json::Value);

impl Workspace {
    fn package(&self, name: &str) -> &serde_json::Value {
        let packages = self.0["packages"].as_array().unwrap();
        packages.iter().find(|package| package["name"] == name).unwrap_or_else(|| panic!("no package {name}"))
    }

    /// The source of a target of a kind.
    fn target(&self, package: &str, kind: &str, name: &str) -> String {
        let targets = self.package(package)["targets"].as_array().unwrap();
        let found = targets.iter().find(|target| target["kind"][0] == kind && target["name"] == name);
        found.unwrap_or_else(|| panic!("{package} has no {kind} {name}"))["src_path"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// All sources beside one, which name its flags.
fn sources(file: &Path) -> String {
    let mut text = String::new();
    let directory = file.parent().unwrap();
    let whole = ["main.rs", "lib.rs"].iter().any(|name| file.ends_with(name));
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop().filter(|_| whole) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text + &fs::read_to_string(file).unwrap()
}

/// A flag is the name of a field (clap's), or stands in one of the sources as it is typed.
fn assert_take(files: &[impl AsRef<Path>], arguments: &[&str], place: &str) {
    let sources: String = files.iter().map(|file| sources(file.as_ref())).collect();
    for flag in arguments.iter().filter(|argument| argument.starts_with("--") && argument.len() > 2) {
        let field = format!("{}:", flag.trim_start_matches('-').replace('-', "_"));
        let known = *flag == "--help" || sources.contains(*flag) || sources.contains(&field);
        assert!(known, "{place}: no {flag}");
    }
}

/// What reads the arguments of one of our commands: the command itself, and the programs that it hands them to.
const READERS: [(&str, &[&str]); 5] = [
    ("bench", &["xtask/src/bench.rs", "benches/probe_cost/main.rs", "studies/src/main.rs"]),
    ("demo", &["xtask/src/demo.rs", "examples/demo/main.rs", "examples/smollm2/src/main.rs"]),
    ("fuzz", &["xtask/src/fuzz.rs"]),
    ("soak", &["examples/soak/main.rs"]),
    ("study", &["studies/src/main.rs"]),
];

/// `cargo xtask COMMAND ARGUMENTS`, by what `cargo xtask help` says.
fn check_xtask(arguments: &[&str], place: &str) {
    let usage = fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
    let (command, rest) = arguments.split_first().expect("a command");
    assert!(usage.contains(&format!("\n  {command} ")), "{place}: no cargo xtask {command}");
    let readers = READERS.iter().find(|(name, _)| name == command).map_or(&[][..], |(_, files)| files);
    assert_take(&readers.iter().map(|file| root().join(file)).collect::<Vec<_>>(), rest, place);
    match *command {
        "test" => {
            let steps = fs::read_to_string(root().join("xtask/src/test.rs")).unwrap();
            for step in rest {
                assert!(steps.contains(&format!("name: \"{step}\"")), "{place}: no step {step}");
            }
        }
        "study" => {
            let studies = fs::read_to_string(root().join("xtask/src/study.rs")).unwrap();
            assert!(studies.contains(&format!("\"{}\"", rest[0])), "{place}: no study {}", rest[0]);
        }
        "demo" => {
            if let ["--model", model] = rest {
                let demo = fs::read_to_string(root().join("xtask/src/demo.rs")).unwrap();
                assert!(demo.contains(&format!("\"{model}\" =>")), "{place}: no model {model}");
            }
        }
        _ => {}
    }
}

fn check_cargo(words: &[&str], workspace: &Workspace, place: &str) {
    let (own, programs) = match words.iter().position(|word| *word == "--") {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (words, &[][..]),
    };
    let (command, arguments) = own.split_first().expect("a command of cargo's");
    if *command == "xtask" {
        return check_xtask(&words[1..], place);
    }
    let known = [
        "add", "bench", "build", "check", "deny", "doc", "install", "new", "package", "publish", "run",
        "test", "tree",
    ];
    assert!(known.contains(command), "{place}: cargo {command}?");
    let value = |flags: &[&str]| {
        let at = arguments.iter().position(|argument| flags.contains(argument))?;
        arguments.get(at + 1).copied()
    };
    for flag in arguments.iter().filter(|argument| argument.starts_with('-')) {
        assert!(CARGO_FLAGS.contains(flag), "{place}: {flag}?");
    }
    let package = value(&["-p", "--package"]);
    if let Some(package) = package {
        workspace.package(package);
    }
    let owner = package.unwrap_or("hessian-probe");
    for (flag, kind) in [("--example", "example"), ("--test", "test"), ("--bench", "bench"), ("--bin", "bin")]
    {
        let Some(name) = value(&[flag]) else { continue };
        let source = workspace.target(owner, kind, name);
        if kind == "test" {
            let unknown = programs.iter().find(|argument| !HARNESS_FLAGS.contains(argument));
            assert_eq!(unknown, None, "{place}");
        } else {
            assert_take(&[source], programs, place);
        }
    }
    let own = package.filter(|package| *package != PROGRAM);
    if let (Some(package), "run", None) = (own, *command, value(&["--example", "--bin"])) {
        let targets = workspace.package(package)["targets"].as_array().unwrap();
        let program = targets.iter().find(|target| target["kind"][0] == "bin").unwrap();
        assert_take(&[program["src_path"].as_str().unwrap()], programs, place);
    }
    if let Some(path) = value(&["--path"]) {
        assert!(root().join(path).exists(), "{place}: {path}");
    }
}

fn check(line: &str, workspace: &Workspace, place: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let assigns = |word: &&str| word.split_once('=').is_some_and(|(name, _)| name == name.to_uppercase());
    let (assigned, words) = words.split_at(words.iter().position(|word| !assigns(word)).expect("a program"));
    for (_, model) in assigned.iter().filter_map(|word| word.split_once(".models/smollm2/")) {
        let setup = fs::read_to_string(root().join("xtask/src/setup/smollm2.rs")).unwrap();
        assert!(setup.contains(&format!("\"{model}\"")), "{place}: `cargo xtask demo` fetches another file");
    }
    let (program, arguments) = words.split_first().expect("a program");
    match *program {
        "cargo" => check_cargo(arguments, workspace, place),
        // Its flags as those of `cargo run -p hessian-probe-cli`.
        "hessian-probe" => {}
        "torchrun" if arguments.contains(&"hessian-probe") => {}
        "cd" | "apt" | "git" => {}
        "torchrun" => {
            let example = arguments.iter().find_map(|word| word.strip_prefix("target/debug/examples/"));
            workspace.target("hessian-probe", "example", example.expect("an example"));
        }
        ".venv/bin/tensorboard" | "../hessian-probe/.venv/bin/tensorboard" => {
            assert_eq!(arguments[0], "--logdir", "{place}");
            let python = fs::read_to_string(root().join("tests/python/requirements.txt")).unwrap();
            assert!(python.contains("tensorboard"), "{place}: .venv has no TensorBoard");
        }
        other => panic!("{place}: nobody checks what `{other}` does"),
    }
}

#[test]
fn commands_name_packages_targets_and_flags_that_are_there() {
    let workspace = Workspace(metadata());
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.language() == "sh") {
            for line in lines(&block.text) {
                check(&line, &workspace, &format!("{}: {line}", block.place()));
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "{checked} commands");
}

/// The same for commands within a sentence.
#[test]
fn commands_in_running_text_are_checked_too() {
    let workspace = Workspace(metadata());
    let mut checked = 0;
    for page in pages() {
        let text = fs::read_to_string(root().join(&page.path)).unwrap();
        // Without blocks, whose fences are backticks, too.
        let prose: String = text.split("```").step_by(2).collect();
        for span in prose.split('`').skip(1).step_by(2) {
            let line = span.split_whitespace().collect::<Vec<_>>().join(" ");
            // A command as such, or a family of them.
            if line.starts_with("cargo ") && !line.contains(['[', '…']) && line.matches(' ').count() > 1 {
                check(&line.replace(" NAME", " blocks"), &workspace, &format!("{}: `{line}`", page.path));
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "{checked} commands");
}
