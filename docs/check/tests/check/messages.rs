//! The messages that troubleshooting goes by are ones that the program has.

use crate::page::{Page, root, spans};
use crate::release::metadata;
use hessian_probe::ProbeConfig;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::fs;
use std::path::Path;
use syn::Lit;

const PAGE: &str = "docs/guide/troubleshooting.md";

/// What differs from case to case.
const VARIES: char = '…';

/// String literals of a source, but those of comments, which are documentation, and of what is compiled for its tests alone.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(source.parse().unwrap(), &mut found);
    found
}

fn walk(tokens: TokenStream, found: &mut Vec<String>) {
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            // What follows `#`, or `#!`: an attribute.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                let within = group.stream().to_string().replace(' ', "");
                if within == "cfg(test)" {
                    // To the end of the item.
                    let ends = |token: &TokenTree| match token {
                        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                        TokenTree::Punct(punct) => punct.as_char() == ';',
                        _ => false,
                    };
                    tokens.find(ends);
                } else if !within.starts_with("doc=") {
                    walk(group.stream(), found);
                }
            }
            TokenTree::Group(group) => walk(group.stream(), found),
            TokenTree::Literal(literal) => {
                if let Lit::Str(text) = Lit::new(literal) {
                    found.push(text.value());
                }
            }
            _ => {}
        }
    }
}

fn collect(path: &Path, found: &mut Vec<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.extend(literals(&fs::read_to_string(path).unwrap()));
    }
}

/// The libraries' own words, and those that their parsers have.
fn messages() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["src", "hooks/c10d/src", "hooks/fsdp/src", "hooks/rusttorch/src", "hooks/var_store/src"] {
        collect(&root().join(folder), &mut found);
    }
    let produced =
        ["[slq]\nstep = 3", "[slq]\nsteps = 0"].map(|text| ProbeConfig::from_toml_str(text).unwrap_err());
    found.extend(produced.map(|error| error.to_string()));
    found
}

/// Whether the parts stand in a message, one behind the other.
fn has(message: &str, pattern: &str) -> bool {
    let mut rest = message;
    pattern.split(VARIES).map(str::trim).all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Messages of the page, by section.
fn documented() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join(PAGE)).unwrap();
    let (mut section, mut found) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut section);
        } else if let Some(message) = line.strip_prefix("#### `").and_then(|rest| rest.strip_suffix('`')) {
            found.push((section.clone(), message.to_owned()));
        }
    }
    found
}

/// What others say: the loader and torch-sys.
const BUILDING: &str = "Building and starting";

#[test]
fn messages_of_the_page_are_the_program_s() {
    let messages = messages();
    let documented = documented();
    assert!(documented.len() > 40, "{}", documented.len());
    for (_, pattern) in documented.iter().filter(|(section, _)| section != BUILDING) {
        assert!(messages.iter().any(|message| has(message, pattern)), "{PAGE}: nothing says `{pattern}`");
    }
}

#[test]
fn messages_of_a_build_are_torch_sys_s() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let torch = packages.iter().find(|package| package["name"] == "torch-sys").unwrap();
    let manifest = Path::new(torch["manifest_path"].as_str().unwrap());
    let script = literals(&fs::read_to_string(manifest.with_file_name("build.rs")).unwrap());
    let patterns = documented().into_iter().filter(|(section, _)| section == BUILDING);
    // That of the loader is tried by `newcomer`.
    for (_, pattern) in patterns.filter(|(_, pattern)| !pattern.contains("shared")) {
        assert!(
            script.iter().any(|message| has(message, &pattern)),
            "{PAGE}: torch-sys does not say `{pattern}`"
        );
    }
}

/// A table of keys is no table of messages, but its spans are found in the same way.
#[test]
fn literals_are_found_as_the_compiler_sees_them() {
    let source = r##"
        //! "of a page"
        /* "no" */ let a = '"'; // "no"
        /// "of an item"
        #[error("an attribute's")]
        let b = "one \
            two"; f("a \"b\"", 'x', r#"raw "c""#, b"bytes");
        #[cfg(test)] mod tests { fn f() { g("no"); } }
        fn after() { panic!("also {that}") }
    "##;
    assert_eq!(literals(source), ["an attribute's", "one two", "a \"b\"", "raw \"c\"", "also {that}"]);
    assert!(has("rank {rank}: the host failed in {during}: {source}", "rank …: the host failed in …: …"));
    assert!(!has("the host failed", "the host panicked"));
    assert_eq!(spans("`a`, and `b`"), ["a", "b"]);
    assert!(Page::read(PAGE).headings.len() > 40);
}
