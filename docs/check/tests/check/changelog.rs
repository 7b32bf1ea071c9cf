//! What is to come has a version in the changelog, the one that the crates have.

use crate::page::{Page, root};

#[test]
fn the_changelog_begins_with_the_version_of_the_crates() {
    let manifest: toml::Table =
        toml::from_str(&std::fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    let version = manifest["workspace"]["package"]["version"].as_str().unwrap();
    let headings = Page::read("CHANGELOG.md").headings;
    let releases: Vec<(&str, &str)> =
        headings.iter().filter_map(|heading| heading.strip_prefix('[')?.split_once("] - ")).collect();
    assert_eq!(releases.first().map(|(version, _)| *version), Some(version), "{headings:?}");
    // Only the newest may be without its day.
    for (index, (version, date)) in releases.iter().enumerate() {
        let day = date.len() == 10 && date.split('-').all(|part| part.parse::<u16>().is_ok());
        assert!(day || (index == 0 && *date == "unreleased"), "{version}: {date}");
    }
}
