//! Pages of the docs, whose tables a study writes: what stands between `<!-- study: NAME -->` and `<!-- end -->`.

use crate::Result;
use std::fs;
use std::path::Path;

/// What a study found, as Markdown.
pub struct Section {
    /// How the page calls it.
    pub name: &'static str,
    /// Whole lines.
    pub markdown: String,
}

/// Puts the sections into the page at `path`.
///
/// # Errors
/// Where the page has no place for one of them, or has a place for one that there is not.
pub fn update(path: &Path, sections: &[Section]) -> Result<()> {
    let page = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let filled = fill(&page, sections).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(fs::write(path, filled)?)
}

/// The page with the sections in their places.
///
/// # Errors
/// As of [`update`].
pub fn fill(page: &str, sections: &[Section]) -> Result<String, String> {
    const END: &str = "<!-- end -->\n";
    let mut filled = String::new();
    let mut rest = page;
    let mut used = Vec::new();
    while let Some(at) = rest.find("<!-- study: ") {
        let (before, marked) = rest.split_at(at);
        let (mark, after) = marked.split_once('\n').ok_or("a mark ends its line")?;
        let name = mark.trim_start_matches("<!-- study: ").trim_end_matches(" -->");
        let section = sections.iter().find(|section| section.name == name);
        let section = section.ok_or_else(|| format!("no section is called `{name}`"))?;
        let (_, after) = after.split_once(END).ok_or_else(|| format!("`{name}` has no end"))?;
        filled += &format!("{before}{mark}\n{}\n{END}", section.markdown.trim_end());
        used.push(name);
        rest = after;
    }
    match sections.iter().find(|section| !used.contains(&section.name)) {
        Some(missing) => Err(format!("there is no place for the section `{}`", missing.name)),
        None => Ok(filled + rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &'static str, markdown: &str) -> Section {
        Section { name, markdown: markdown.into() }
    }

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let page =
            "Text.\n<!-- study: a -->\nold\n<!-- end -->\nMore.\n<!-- study: b -->\n<!-- end -->\nEnd.\n";
        let sections = [section("b", "| 2 |\n"), section("a", "| 1 |\n")];
        let filled = fill(page, &sections).unwrap();
        let expected = "Text.\n<!-- study: a -->\n| 1 |\n<!-- end -->\nMore.\n<!-- study: b -->\n| 2 |\n<!-- end -->\nEnd.\n";
        assert_eq!(filled, expected);
        assert_eq!(fill(&filled, &sections).unwrap(), filled);
    }

    #[test]
    fn a_section_without_a_place_and_a_place_without_a_section_are_errors() {
        let page = "<!-- study: a -->\n<!-- end -->\n";
        assert!(fill(page, &[]).unwrap_err().contains("`a`"));
        assert!(fill(page, &[section("a", ""), section("b", "")]).unwrap_err().contains("`b`"));
        assert!(fill("<!-- study: a -->\n", &[section("a", "")]).unwrap_err().contains("no end"));
    }
}
