//! Text as bytes: a vocabulary of 256, no tokenizer.

use super::windows::{random_window, split, window_in_turn};
use super::{Sequence, SequenceId, SequenceSource};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Which files make a corpus.
///
/// ```
/// use hessian_probe_fsdp::{Corpus, CorpusConfig};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// std::fs::write(directory.join("a.txt"), "How now brown cow")?;
/// let config = CorpusConfig { extension: "txt".into(), validation: 0.2, ..CorpusConfig::new(directory) };
/// assert_eq!(Corpus::read(&config)?.training_bytes(), 13);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusConfig {
    /// Searched for files at any depth; symbolic links are not followed.
    pub directory: PathBuf,
    /// The extension of the files, without the dot.
    #[serde(default = "default_extension")]
    pub extension: String,
    /// The corpus ends after this many bytes.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: usize,
    /// The part at the end that is kept for validation, in `(0, 1)`.
    #[serde(default = "default_validation")]
    pub validation: f64,
}

fn default_extension() -> String {
    "rs".into()
}

fn default_max_bytes() -> usize {
    8 << 20
}

fn default_validation() -> f64 {
    0.1
}

impl CorpusConfig {
    /// The `.rs` files under `directory`, 8 MiB at most, a tenth of it for validation.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            extension: default_extension(),
            max_bytes: default_max_bytes(),
            validation: default_validation(),
        }
    }

    /// The contents of the files one behind the other, in the order of their paths.
    ///
    /// # Errors
    /// [`ReadData`](Error::ReadData), and [`Data`](Error::Data) where no such file is found.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut files = Vec::new();
        collect(&self.directory, &self.extension, &mut files)?;
        files.sort();
        let mut bytes = Vec::new();
        for path in files {
            if bytes.len() >= self.max_bytes {
                break;
            }
            let text =
                std::fs::read(&path).map_err(|source| Error::ReadData { path: path.clone(), source })?;
            bytes.extend_from_slice(&text);
        }
        bytes.truncate(self.max_bytes);
        if bytes.is_empty() {
            return Err(Error::Data(format!(
                "no file ending in `.{}` under {}",
                self.extension,
                self.directory.display()
            )));
        }
        Ok(bytes)
    }
}

/// Bytes to train on, and bytes to validate on.
///
/// ```
/// use hessian_probe_fsdp::{Corpus, SequenceSource};
///
/// let corpus = Corpus::from_bytes(b"abcdefghijklmnopqrst".to_vec(), 0.5)?;
/// let first = corpus.validation(0, 3)?;
/// assert_eq!((first.inputs, first.labels), (vec![107, 108, 109], vec![108, 109, 110]));
/// # Ok::<(), hessian_probe_fsdp::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Corpus {
    training: Vec<u8>,
    validation: Vec<u8>,
}

impl Corpus {
    /// Reads the files that `config` names, in the order of their paths.
    ///
    /// # Errors
    /// [`ReadData`](Error::ReadData), and [`Data`](Error::Data) where no such file is found.
    pub fn read(config: &CorpusConfig) -> Result<Self> {
        Self::from_bytes(config.bytes()?, config.validation)
    }

    /// The corpus of `bytes`, the last part of which (`validation`, a fraction) is for validation.
    ///
    /// # Errors
    /// [`Config`](Error::Config) when the fraction is not in `(0, 1)`.
    pub fn from_bytes(bytes: Vec<u8>, validation: f64) -> Result<Self> {
        let (training, validation) = split(bytes, validation)?;
        Ok(Self { training, validation })
    }

    /// The number of bytes to train on.
    #[must_use]
    pub fn training_bytes(&self) -> usize {
        self.training.len()
    }

    /// The number of bytes to validate on.
    #[must_use]
    pub fn validation_bytes(&self) -> usize {
        self.validation.len()
    }
}

impl SequenceSource for Corpus {
    /// A window at a random offset, drawn by a hash of `id`.
    fn training(&self, id: SequenceId, length: usize) -> Result<Sequence> {
        random_window(&self.training, id, length)
    }

    /// Windows one behind the other, from the start again after the last.
    fn validation(&self, index: u64, length: usize) -> Result<Sequence> {
        window_in_turn(&self.validation, index, length)
    }

    fn vocab_size(&self) -> usize {
        256
    }
}

fn collect(directory: &Path, extension: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |source| Error::ReadData { path: directory.into(), source };
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let path = entry.path();
        if kind.is_dir() {
            collect(&path, extension, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_in_the_order_of_their_paths() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("b.rs", "bbbb"), ("a/z.rs", "zz"), ("a/a.rs", "aaaa"), ("c.txt", "no")] {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut config = CorpusConfig { validation: 0.5, ..CorpusConfig::new(directory.path()) };
        let corpus = Corpus::read(&config).unwrap();
        assert_eq!((&corpus.training[..], &corpus.validation[..]), (&b"aaaaz"[..], &b"zbbbb"[..]));

        config.max_bytes = 4;
        let corpus = Corpus::read(&config).unwrap();
        assert_eq!((&corpus.training[..], &corpus.validation[..]), (&b"aa"[..], &b"aa"[..]));

        config.extension = "c".into();
        assert!(Corpus::read(&config).unwrap_err().to_string().contains("`.c`"));
    }

    #[test]
    fn sequences_are_pure_functions_of_their_place_and_stay_inside() {
        let corpus = Corpus::from_bytes((0..=255).collect(), 0.25).unwrap();
        let id = SequenceId { seed: 1, step: 2, micro_step: 3, index: 4 };
        let first = corpus.training(id, 10).unwrap();
        assert_eq!(first, corpus.training(id, 10).unwrap());
        assert_eq!(first.inputs[1..], first.labels[..9]);
        let mut starts = std::collections::BTreeSet::new();
        for index in 0..2000 {
            starts.insert(corpus.training(SequenceId { index, ..id }, 100).unwrap().inputs[0]);
        }
        // 192 bytes have 92 windows of 100 tokens and one more target.
        assert_eq!(starts, (0..92).collect());
        assert!(corpus.training(id, 191).is_ok() && corpus.training(id, 192).is_err());

        let validation: Vec<i64> =
            (0..7).map(|index| corpus.validation(index, 10).unwrap().inputs[0]).collect();
        assert_eq!(validation, [192, 202, 212, 222, 232, 242, 192]);
    }
}
