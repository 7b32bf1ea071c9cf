//! A checkpoint on disk, without a trainer.

use super::atomic::IoAt;
use super::checksum::VerifiedFile;
use super::manifest::{MANIFEST, Manifest, Unreadable, VERSION};
use crate::config::TrainerConfig;
use crate::error::{Error, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A checkpoint whose manifest is intact and whose files are there with their full length.
///
/// ```
/// use hessian_probe_c10d::ProcessGroup;
/// use hessian_probe_fsdp::{Checkpoint, Corpus, LlamaConfig, Trainer, TrainerConfig};
///
/// # let corpus = Corpus::from_bytes("Fuzzy Wuzzy was a bear. ".repeat(50).into_bytes(), 0.2)?;
/// # let mut config = TrainerConfig::new(LlamaConfig::new(256, 16, 40, 1, 2), 4, 16);
/// # config.threads = Some(1);
/// # let directory = tempfile::tempdir()?;
/// let mut trainer = Trainer::new(config, ProcessGroup::single(), corpus)?;
/// trainer.run(3, &mut [], |_| ())?;
/// let path = trainer.save(directory.path(), &mut [])?;
///
/// let checkpoint = Checkpoint::open(&path)?;
/// checkpoint.verify()?;
/// assert_eq!((checkpoint.step(), checkpoint.config().model.hidden_size), (3, 16));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// Reads the manifest of the checkpoint at `path` and looks at the length of every file, but not at
    /// their contents: see [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`Damaged`](Error::Damaged) with the file at fault; [`Incompatible`](Error::Incompatible) where another
    /// version of this crate wrote it; [`Io`](Error::Io).
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(path, 0)
    }

    pub(super) fn open_on(path: &Path, rank: usize) -> Result<Self> {
        let file = path.join(MANIFEST);
        let damaged = |reason: String| Error::Damaged { rank, path: file.clone(), reason };
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(damaged("is missing, so this is not a checkpoint".into()));
            }
            other => other.io_at(rank, "read", &file)?,
        };
        let manifest = Manifest::decode(&bytes).map_err(|unreadable| match unreadable {
            Unreadable::Damaged(reason) => damaged(reason),
            Unreadable::Version(version) => Error::Incompatible {
                path: path.into(),
                key: "version".into(),
                reason: format!("is {version}; this version of hessian-probe-fsdp reads {VERSION}"),
            },
        })?;
        for entry in manifest.all_files() {
            VerifiedFile::open(path, entry, rank)?;
        }
        Ok(Self { path: path.into(), manifest })
    }

    /// Checks every byte of every file.
    ///
    /// # Errors
    /// [`Damaged`](Error::Damaged) with the file at fault; [`Io`](Error::Io).
    pub fn verify(&self) -> Result<()> {
        self.manifest.all_files().try_for_each(|entry| VerifiedFile::open(&self.path, entry, 0)?.verify())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it consists of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The configuration of the run that wrote it.
    #[must_use]
    pub fn config(&self) -> &TrainerConfig {
        &self.manifest.config
    }

    /// The number of optimizer steps taken.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.manifest.step
    }
}
