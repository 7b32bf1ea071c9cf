//! The fenced blocks of the README. (`docs/check` reads pages by a real parser of Markdown and sees to it that they have no others.)

#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// What stands behind the fence, up to a comma.
    pub language: String,
    /// The file that the block is, where the line before it says nothing but that: `` `build.rs`: ``.
    pub file: Option<String>,
    pub text: String,
}

pub fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut open, mut before) = (None::<Block>, "");
    for line in page.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => {
                let language = info.split(',').next().unwrap_or_default().to_owned();
                let file = before.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:"));
                open = Some(Block { language, file: file.map(str::to_owned), text: String::new() });
            }
            (Some(_), Some(block)) => {
                blocks.push(block);
                before = "";
            }
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {
                if !line.is_empty() {
                    before = line;
                }
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_language_and_their_file() {
        let page = "Text.\n\n`a/b.rs`:\n\n```rust,no_run\nfn main() {\n\n}\n```\n\n```sh\ncargo run\n```\n`c`: d\n```text\n```\n";
        let block = |language: &str, file: Option<&str>, text: &str| Block {
            language: language.to_owned(),
            file: file.map(str::to_owned),
            text: text.to_owned(),
        };
        let expected = [
            block("rust", Some("a/b.rs"), "fn main() {\n\n}\n"),
            block("sh", None, "cargo run\n"),
            block("text", None, ""),
        ];
        assert_eq!(blocks(page), expected);
    }
}
