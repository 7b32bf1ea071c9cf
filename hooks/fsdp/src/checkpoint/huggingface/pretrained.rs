//! A model in Hugging Face's form that is looked into, and not yet read.

use super::config::read_config;
use super::weights::Weights;
use crate::checkpoint::agree;
use crate::error::Result;
use crate::model::LlamaConfig;
use hessian_probe_c10d::ProcessGroup;
use std::path::{Path, PathBuf};

/// A model's configuration and its files, mapped into memory: what is needed to say what can be done with it
/// before its weights are read.
pub struct Pretrained {
    pub(super) directory: PathBuf,
    pub(super) config: LlamaConfig,
    pub(super) weights: Weights,
}

impl Pretrained {
    /// The model in `directory`, whose weights stay where they are. Collective.
    ///
    /// # Errors
    /// On all ranks if on one: [`HuggingFaceKey`](crate::Error::HuggingFaceKey) for a key of `config.json`,
    /// [`HuggingFace`](crate::Error::HuggingFace) for files that are not whole, [`Io`](crate::Error::Io).
    pub fn open(directory: &Path, group: &ProcessGroup) -> Result<Self> {
        let rank = group.rank();
        let opened = read_config(&directory.join("config.json")).and_then(|config| {
            Ok(Self { directory: directory.into(), config, weights: Weights::open(directory, rank)? })
        });
        agree(group, "opening a model", opened)
    }

    /// The model's sizes.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }
}

impl std::fmt::Debug for Pretrained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pretrained")
            .field("directory", &self.directory)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
