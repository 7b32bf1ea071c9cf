//! Every block is checked by somebody.

use crate::page::{Page, pages, root};
use hessian_probe::ProbeConfig;

/// Blocks of a language that nothing here checks would be examples that nobody has tried.
#[test]
fn every_block_says_its_language_and_all_are_checked() {
    let doc_tests = std::fs::read_to_string(root().join("docs/check/src/lib.rs")).unwrap();
    let (mut rust, mut toml) = (0, 0);
    for page in pages() {
        for block in &page.blocks {
            let place = block.place();
            match block.language() {
                "rust" => {
                    let included = format!("\"../../../{}\"", page.path).replace("../../../docs/", "../../");
                    assert!(doc_tests.contains(&included), "{place}: docs/check/src/lib.rs lacks {included}");
                    let attributes: Vec<&str> = block.info.split(',').skip(1).collect();
                    assert!(attributes.is_empty() || attributes == ["no_run"], "{place}: {attributes:?}");
                    rust += 1;
                }
                "toml" => toml += 1,
                "jsonl" => {
                    for line in block.text.lines() {
                        let parsed = serde_json::from_str::<serde_json::Value>(line);
                        parsed.unwrap_or_else(|error| panic!("{place}: {error}"));
                    }
                }
                // Run by `cli/tests/readme.rs`, which reads this page alone.
                "console" => assert_eq!(page.path, "cli/README.md", "{place}"),
                // By `commands`.
                "sh" => {}
                // Diagrams, and what programs print.
                "text" => {}
                other => {
                    panic!(
                        "{place}: nobody checks blocks of `{other}`; label it rust, toml, jsonl, sh or text"
                    )
                }
            }
        }
    }
    assert!(rust > 10 && toml > 5, "{rust} blocks of Rust and {toml} of TOML were found");
}

#[test]
fn every_configuration_is_valid() {
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.language() == "toml") {
            let place = block.place();
            let file = block.file.as_deref().unwrap_or_default();
            if file.ends_with("Cargo.toml") || file == ".cargo/config.toml" {
                // What they mean to cargo is tried by `newcomer`.
                toml::from_str::<toml::Table>(&block.text).unwrap_or_else(|error| panic!("{place}: {error}"));
            } else if let Err(error) = ProbeConfig::from_toml_str(&block.text) {
                panic!("{place}: {error}");
            }
        }
    }
}

/// The first thing that a reader copies from the guide.
#[test]
fn the_guide_shows_the_demo_s_configuration() {
    let demo = std::fs::read_to_string(root().join("examples/demo/probe.toml")).unwrap();
    let page = Page::read("docs/guide/settings.md");
    assert!(page.blocks.iter().any(|block| block.text == demo), "docs/guide/settings.md shows another one");
}

/// The only output of a program on these pages: that of `cargo xtask demo` in the README.
#[test]
fn the_demo_s_output_is_at_the_steps_of_its_configuration() {
    let readme = Page::read("README.md");
    let table = readme.blocks.iter().find(|block| block.language() == "text").expect("the demo's table");
    let mut lines = table.text.lines();
    // `tests/configuration.rs` runs the demo and compares the head.
    lines.next();
    // At the steps of its configuration, the last one included.
    let steps: Vec<u64> =
        lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert_eq!(steps, [0, 50, 100, 150, 200, 250, 299]);
}
