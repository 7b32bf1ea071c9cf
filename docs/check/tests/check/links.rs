//! Links lead somewhere.

use crate::page::{Page, pages, root};

#[test]
fn links_within_the_repository_lead_to_files_and_headings() {
    let mut followed = 0;
    for page in pages() {
        for (line, link) in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            let place = format!("{}:{line}: {link}", page.path);
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let from = root().join(&page.path);
            let target = if path.is_empty() { from } else { from.with_file_name("").join(path) };
            assert!(target.exists(), "{place} leads nowhere");
            if !anchor.is_empty() {
                let target = target.canonicalize().unwrap();
                let name = target.strip_prefix(root().canonicalize().unwrap()).unwrap().display().to_string();
                let found = Page::read(&name).anchors().any(|heading| heading == anchor);
                assert!(found, "{place}: {name} has no such heading");
            }
        }
    }
    assert!(followed > 50, "{followed} links");
}

/// A page that nothing leads to is read by nobody.
#[test]
fn every_page_of_the_guide_is_in_its_index() {
    let index = Page::read("docs/README.md");
    for page in pages() {
        if let Some(path) = page.path.strip_prefix("docs/").filter(|path| *path != "README.md") {
            assert!(index.links.iter().any(|(_, link)| link == path), "docs/README.md does not name {path}");
        }
    }
}
