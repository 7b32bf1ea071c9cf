//! What a language model is probed on: short texts that lie in the repository.

use crate::Result;
use hessian_probe_fsdp::checkpoint::gguf::GgufFile;
use hessian_probe_smollm2::tokenizer;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// A text to evaluate a language model on.
pub struct Text {
    /// Short, for tables and file names.
    pub name: &'static str,
    pub content: &'static str,
}

/// The texts of the studies.
pub const TEXTS: [Text; 3] = [
    Text { name: "story", content: include_str!("../texts/story.txt") },
    Text { name: "questions", content: include_str!("../texts/questions.txt") },
    Text { name: "rust", content: include_str!("../texts/rust.txt") },
];

impl Text {
    /// Writes `sequences` sequences of `tokens` tokens, the text's first ones, as a data file for `hessian-probe`.
    ///
    /// # Errors
    /// Where the text is shorter.
    pub fn write(
        &self,
        gguf: &GgufFile,
        sequences: usize,
        tokens: usize,
        directory: &Path,
    ) -> Result<PathBuf> {
        let tokenizer = tokenizer::from_gguf(gguf)?;
        let all = tokenizer::encode(&tokenizer, self.content)?;
        if all.len() < sequences * tokens {
            return Err(format!("the text `{}` has {} tokens only", self.name, all.len()).into());
        }
        let path = directory.join(format!("{}-{sequences}x{tokens}.jsonl", self.name));
        fs::write(&path, lines(&all[..sequences * tokens], tokens))?;
        Ok(path)
    }
}

/// One sequence a line.
pub fn lines(tokens: &[u32], length: usize) -> String {
    tokens.chunks(length).fold(String::new(), |mut lines, sequence| {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{{\"input_ids\":{sequence:?}}}");
        lines
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_lines_of_a_data_file() {
        assert_eq!(lines(&[1, 2, 3, 4], 2), "{\"input_ids\":[1, 2]}\n{\"input_ids\":[3, 4]}\n");
    }
}
