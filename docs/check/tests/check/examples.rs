//! Every main item of the libraries has an example that runs: a doc test of its own, or of one of its methods.

use crate::page::root;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The libraries' crates.
const SOURCES: [&str; 5] =
    ["src", "hooks/c10d/src", "hooks/fsdp/src", "hooks/var_store/src", "hooks/rusttorch/src"];

/// Main items that are not at the root of their crate, beside the sections of the configurations.
const ALSO: [(&str, &str); 5] = [
    ("src", "Sidecar"),
    ("src", "Lanczos"),
    ("src", "CriticalSharpness"),
    ("src", "Duration"),
    ("src", "RegimesConfig"),
];

/// What nobody makes or calls: an error tells itself, and this is a part of one.
const NO_EXAMPLE: [&str; 2] = ["Error", "Silent"];

/// Names that a crate's root offers from its modules.
fn offered(source: &str) -> Vec<String> {
    let uses = source.split("\npub use ").skip(1).filter_map(|rest| Some(rest.split_once(';')?.0));
    let names = uses.flat_map(|path| {
        let last = path.split_once('{').map_or_else(|| path.rsplit("::").next().unwrap(), |(_, list)| list);
        last.trim_end_matches('}').split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>()
    });
    names.filter(|name| !name.is_empty() && !NO_EXAMPLE.contains(&name.as_str())).collect()
}

/// Another name for something: no item of its own.
fn alias(line: &str) -> Option<&str> {
    line.strip_prefix("pub type ")?.split(|c: char| !c.is_alphanumeric()).next()
}

/// A public item, by the line that begins it.
fn declared(line: &str) -> Option<&str> {
    let item = line.strip_prefix("pub ")?;
    let kinds = ["struct ", "enum ", "trait ", "fn "];
    let name = kinds.iter().find_map(|kind| item.strip_prefix(kind))?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The type whose methods follow.
fn implemented(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("impl")?;
    // Behind the generic parameters, which may have some of their own; the > of -> ends none.
    let (mut depth, mut before) = (0, ' ');
    let end = rest.find(|c| {
        depth += i32::from(c == '<') - i32::from(c == '>' && before != '-');
        before = c;
        depth == 0
    })?;
    let rest = rest[end..].trim_start_matches('>').trim_start();
    let target = rest.split_once(" for ").map_or(rest, |(_, target)| target);
    target.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
}

/// For each public item of a file that many examples that run: its own, those of its methods.
fn count(text: &str, examples: &mut BTreeMap<String, usize>) {
    let (mut pending, mut fence, mut within) = (0, None, None);
    for line in text.lines() {
        if line == "mod tests {" {
            return;
        }
        if let Some(doc) = line.trim_start().strip_prefix("///") {
            match (doc.trim().strip_prefix("```"), fence) {
                (Some(info), None) => fence = Some(runs(info)),
                (Some(_), Some(is_run)) => {
                    pending += usize::from(is_run);
                    fence = None;
                }
                (None, _) => {}
            }
            continue;
        }
        if let Some(name) = declared(line) {
            *examples.entry(name.to_owned()).or_default() += pending;
            within = (line.starts_with("pub trait ")).then(|| name.to_owned());
        } else if let Some(name) = implemented(line) {
            within = Some(name.to_owned());
        } else if let Some(name) = within.as_ref().filter(|_| line.starts_with("    ")) {
            *examples.entry(name.clone()).or_default() += pending;
        } else if line.starts_with('#') || line.is_empty() {
            // Attributes stand between an item and its documentation.
            continue;
        }
        pending = 0;
    }
}

/// Whether a doc test with these words behind its fence is compiled and run.
fn runs(info: &str) -> bool {
    info.split(',').map(str::trim).all(|word| word.is_empty() || word == "rust" || word == "should_panic")
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_main_item_has_an_example_that_runs() {
    let mut lacking = Vec::new();
    let mut main_items = 0;
    for source in SOURCES {
        let directory = root().join(source);
        let mut examples = BTreeMap::new();
        let mut paths = Vec::new();
        files(&directory, &mut paths);
        let mut aliases = Vec::new();
        for path in &paths {
            let text = fs::read_to_string(path).unwrap();
            count(&text, &mut examples);
            aliases.extend(text.lines().filter_map(alias).map(str::to_owned));
        }
        let mut items = offered(&fs::read_to_string(directory.join("lib.rs")).unwrap());
        items.extend(examples.keys().filter(|name| name.ends_with("Config")).cloned());
        items.extend(ALSO.iter().filter(|(of, _)| *of == source).map(|(_, name)| (*name).to_owned()));
        items.retain(|name| !aliases.contains(name));
        items.sort();
        items.dedup();
        main_items += items.len();
        for name in items {
            match examples.get(&name) {
                Some(0) => lacking.push(format!("{source}: {name}")),
                Some(_) => {}
                None => lacking.push(format!("{source}: {name}, which is not found")),
            }
        }
    }
    assert!(main_items > 80, "{main_items}");
    assert!(lacking.is_empty(), "main items without an example that runs:\n{}", lacking.join("\n"));
}

#[test]
fn an_example_belongs_to_the_item_below_it_and_one_that_does_not_run_is_none() {
    let text = "/// ```\n/// f();\n/// ```\n#[must_use]\npub fn f() {}\n\n/// ```no_run\n/// ```\npub struct A<T>(T);\n\n\
        impl<T: Into<u8>> A<T> {\n    /// ```text\n    /// ```\n    pub fn g() {}\n    /// ```\n    /// ```\n    pub fn h() {}\n}\n\n\
        /// None.\npub enum B {}\n";
    let mut examples = BTreeMap::new();
    count(text, &mut examples);
    let found: Vec<(&str, usize)> = examples.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(found, [("A", 1), ("B", 0), ("f", 1)]);
    for line in
        ["impl<F: Fn() -> L, L: Loss> A<'static, F> {", "impl<T: Into<u8>> Host for A<T> {", "impl A {"]
    {
        assert_eq!(implemented(line), Some("A"));
    }
    assert_eq!(offered("\npub use a::{B, C};\npub use d::E;\npub use error::Error;\n"), ["B", "C", "E"]);
}
