//! What models are probed on: short texts that lie in the repository, and tokens drawn at random for comparison.

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
    content: Content,
}

enum Content {
    Text(&'static str),
    /// Tokens drawn uniformly from the vocabulary.
    Random,
}

/// The texts of the studies.
pub const TEXTS: [Text; 4] = [
    Text { name: "story", content: Content::Text(include_str!("../texts/story.txt")) },
    Text { name: "questions", content: Content::Text(include_str!("../texts/questions.txt")) },
    Text { name: "rust", content: Content::Text(include_str!("../texts/rust.txt")) },
    Text { name: "random", content: Content::Random },
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
        let all = match self.content {
            Content::Text(text) => tokenizer::encode(&tokenizer, text.trim_start())?,
            Content::Random => random(sequences * tokens, tokenizer.get_vocab_size(true)),
        };
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

/// Tokens from a fixed seed (the multiplier and increment of Knuth's MMIX).
fn random(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state: u64 = 2602;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The high bits are the good ones.
        ((state >> 33) as usize % vocabulary) as u32
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_lines_of_a_data_file() {
        assert_eq!(lines(&[1, 2, 3, 4], 2), "{\"input_ids\":[1, 2]}\n{\"input_ids\":[3, 4]}\n");
        let tokens = random(1000, 49_152);
        assert!(tokens.iter().all(|&token| token < 49_152) && tokens == random(1000, 49_152));
        let distinct: std::collections::BTreeSet<_> = tokens.iter().collect();
        assert!(distinct.len() > 970, "{}", distinct.len());
    }
}
