//! Pages as a reader has them: headings, blocks, links, tables.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    pub page: String,
    pub line: usize,
    /// What stands behind the fence: `rust,no_run`.
    pub info: String,
    /// The file that the block is, where the paragraph before it says nothing but that: `` `build.rs`: ``.
    pub file: Option<String>,
    pub text: String,
}

/// A table below a heading.
#[derive(Debug)]
pub struct Table {
    pub heading: String,
    /// Cells as they are written, head first.
    pub rows: Vec<Vec<String>>,
}

#[derive(Debug)]
pub struct Page {
    /// Relative to the root.
    pub path: String,
    pub headings: Vec<String>,
    pub blocks: Vec<Block>,
    /// Targets of links and images, with the line.
    pub links: Vec<(usize, String)>,
    /// What stands between backticks within text, with the line.
    pub codes: Vec<(usize, String)>,
    pub tables: Vec<Table>,
}

impl Block {
    pub fn language(&self) -> &str {
        self.info.split(',').next().unwrap_or_default()
    }

    pub fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

impl Page {
    pub fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut page = Self {
            path: path.to_owned(),
            headings: Vec::new(),
            blocks: Vec::new(),
            links: Vec::new(),
            codes: Vec::new(),
            tables: Vec::new(),
        };
        let line = |offset: usize| 1 + text[..offset].matches('\n').count();
        // The source of the paragraph or heading that ended last.
        let mut before = String::new();
        let mut block: Option<Block> = None;
        for (event, range) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::End(TagEnd::Heading(_)) => {
                    page.headings.push(text[range.clone()].trim().trim_start_matches('#').trim().to_owned());
                    before.clear();
                }
                Event::End(TagEnd::Paragraph) => text[range].trim().clone_into(&mut before),
                Event::Start(Tag::CodeBlock(kind)) => {
                    let info = match kind {
                        CodeBlockKind::Fenced(info) => info.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    let file = before.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:"));
                    block = Some(Block {
                        page: page.path.clone(),
                        line: line(range.start),
                        info,
                        file: file.filter(|file| !file.contains('`')).map(str::to_owned),
                        text: String::new(),
                    });
                }
                Event::Text(part) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&part);
                    }
                }
                Event::End(TagEnd::CodeBlock) => {
                    page.blocks.extend(block.take());
                    before.clear();
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line(range.start), dest_url.into_string()));
                }
                Event::Code(code) => page.codes.push((line(range.start), code.into_string())),
                Event::Start(Tag::Table(_)) => {
                    let heading = page.headings.last().cloned().unwrap_or_default();
                    page.tables.push(Table { heading, rows: Vec::new() });
                }
                Event::Start(Tag::TableHead | Tag::TableRow) => {
                    if let Some(table) = page.tables.last_mut() {
                        table.rows.push(Vec::new());
                    }
                }
                Event::End(TagEnd::TableCell) => {
                    let row = page.tables.last_mut().and_then(|table| table.rows.last_mut());
                    if let Some(row) = row {
                        row.push(text[range].trim().to_owned());
                    }
                }
                _ => {}
            }
        }
        page
    }

    /// The anchors that GitHub gives the headings.
    pub fn anchors(&self) -> impl Iterator<Item = String> {
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        self.headings.iter().map(move |heading| {
            heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
        })
    }
}

/// The README, those of the hooks and the program, CONTRIBUTING and the like, and all pages below `docs`.
pub fn pages() -> Vec<Page> {
    let mut paths = vec![root().join("cli/README.md")];
    let top = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(top.filter(|path| is_page(path)));
    for hook in fs::read_dir(root().join("hooks")).unwrap() {
        paths.extend(Some(hook.unwrap().path().join("README.md")).filter(|path| path.is_file()));
    }
    below(&root().join("docs"), &mut paths);
    let mut names: Vec<String> =
        paths.iter().map(|path| path.strip_prefix(root()).unwrap().display().to_string()).collect();
    names.sort();
    assert!(names.iter().any(|name| name == "README.md") && names.len() > 15, "{names:?}");
    names.iter().map(|name| Page::read(name)).collect()
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn below(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, paths);
        } else if is_page(&path) {
            paths.push(path);
        }
    }
}

/// What stands between backticks in a cell.
pub fn spans(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
