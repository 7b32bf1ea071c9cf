//! Files that pages name are there, and so are the tests of what they promise.

use crate::page::{pages, root, spans};
use std::fs;
use std::path::{Path, PathBuf};

/// A path as pages write it: from the root, from `tests`, or as the neighbour of the one before it. A `*` is any name.
fn resolve(named: &str, before: Option<&Path>) -> Option<PathBuf> {
    let from = [Some(root().to_owned()), Some(root().join("tests")), before.map(Path::to_owned)];
    from.into_iter().flatten().find_map(|folder| found(folder, Path::new(named)))
}

fn found(folder: PathBuf, rest: &Path) -> Option<PathBuf> {
    let mut names = rest.iter();
    let Some(name) = names.next() else { return Some(folder) };
    if name != "*" {
        return Some(folder.join(name))
            .filter(|path| path.exists())
            .and_then(|path| found(path, names.as_path()));
    }
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| found(entry.path(), names.as_path()))
}

/// All sources that a path stands for.
fn text(path: &Path) -> String {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries.map(|entry| text(&entry.unwrap().path())).collect();
    }
    match path.extension() {
        Some(extension) if extension == "rs" => fs::read_to_string(path).unwrap(),
        _ => String::new(),
    }
}

/// The last column of a table of promises: why there is no test that it names; `Ok` if all are there.
fn tests(cell: &str) -> Result<(), String> {
    let (mut folder, mut sources) = (None, String::new());
    for span in spans(cell) {
        if span.starts_with("cargo ") {
            // `commands` has read that.
        } else if span.ends_with(".rs") || span.ends_with('/') {
            let path = resolve(&span, folder.as_deref()).ok_or_else(|| format!("there is no {span}"))?;
            let own = text(&path);
            if !own.contains("#[test]") {
                return Err(format!("no test is in {span}"));
            }
            sources += &own;
            folder = path.parent().map(Path::to_owned);
        } else if !sources.contains(&format!("fn {span}(")) {
            return Err(format!("there is no test {span}"));
        }
    }
    match sources.is_empty() && !cell.starts_with("the same") {
        true => Err("no file is named".to_owned()),
        false => Ok(()),
    }
}

#[test]
fn every_promise_names_tests_that_are_there() {
    let mut checked = 0;
    for page in pages() {
        for table in
            page.tables.iter().filter(|table| table.rows[0].last().is_some_and(|head| head == "test"))
        {
            for row in &table.rows[1..] {
                let outcome = tests(row.last().unwrap());
                assert_eq!(outcome, Ok(()), "{}, {}", page.path, row[0]);
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "{checked} promises");
}

#[test]
fn sources_that_pages_of_the_guide_name_are_there() {
    let mut checked = 0;
    for page in pages().iter().filter(|page| page.path.starts_with("docs/")) {
        // A name alone is one of the reader's own files.
        for (line, code) in page.codes.iter().filter(|(_, code)| code.contains('/') && code.ends_with(".rs"))
        {
            assert!(resolve(code, None).is_some(), "{}:{line}: there is no {code}", page.path);
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} files");
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    assert_eq!(tests("`promises/failure.rs`, `faulty.rs`"), Err("no test is in faulty.rs".to_owned()));
    assert_eq!(tests("`tests/numerics/costs.rs`, `block_costs.rs`, `cargo xtask soak`"), Ok(()));
    assert_eq!(tests("`promises/never.rs`"), Err("there is no promises/never.rs".to_owned()));
    assert_eq!(tests("`hooks/*/tests/`"), Ok(()));
    assert_eq!(tests("`hooks/*/proofs/`"), Err("there is no hooks/*/proofs/".to_owned()));
    let named = "critical_sharpness_is_the_same_on_1_2_and_4_ranks";
    assert_eq!(tests(&format!("`promises/sharpness.rs`: `{named}`")), Ok(()));
    assert_eq!(tests("`promises/sharpness.rs`: `never`"), Err("there is no test never".to_owned()));
    assert_eq!(tests("by hand"), Err("no file is named".to_owned()));
}
