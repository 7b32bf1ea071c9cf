//! Files and directories that are there as a whole or not at all.
//!
//! POSIX makes a `rename` atomic for everyone who looks, but only an `fsync` of a file keeps its bytes
//! through a loss of power, and only an `fsync` of the directory keeps its name. A checkpoint is written
//! into a hidden directory; everything in it is synced, then the directory itself; one rename publishes it;
//! the parent is synced.

use super::names::Name;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Adds rank, action and path to an error of the file system.
pub(in crate::checkpoint) trait IoAt<T> {
    fn io_at(self, rank: usize, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoAt<T> for io::Result<T> {
    fn io_at(self, rank: usize, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { rank, action, path: path.into(), source })
    }
}

/// Makes the names in `directory` survive a loss of power.
pub(in crate::checkpoint) fn sync_directory(directory: &Path, rank: usize) -> Result<()> {
    // Elsewhere a directory cannot be opened as a file.
    if cfg!(unix) {
        File::open(directory).and_then(|file| file.sync_all()).io_at(rank, "sync", directory)?;
    }
    Ok(())
}

/// Creates `directory` and its missing parents, durably.
pub(in crate::checkpoint) fn create_directory(directory: &Path, rank: usize) -> Result<()> {
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err())
        .collect();
    fs::create_dir_all(directory).io_at(rank, "create", directory)?;
    for path in missing {
        sync_directory(parent(path), rank)?;
    }
    Ok(())
}

/// Writes a small file under a temporary name, syncs it, and gives it its name. The directory is not synced.
pub(in crate::checkpoint) fn write_file(path: &Path, contents: &[u8], rank: usize) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().io_at(rank, "write", &temporary)?;
    fs::rename(&temporary, path).io_at(rank, "rename to", path)
}

/// `path`'s parent, also where it is a bare name.
pub(in crate::checkpoint) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A directory that is being filled and will be a checkpoint.
#[derive(Debug)]
pub(super) struct Staging {
    directory: PathBuf,
    step: u64,
    nonce: u64,
}

impl Staging {
    /// The staging directory for `step` in `directory`; nothing is created yet. `nonce` keeps it apart from
    /// that of an earlier attempt, whose ranks may still be writing.
    pub(super) fn new(directory: &Path, step: u64, nonce: u64) -> Self {
        Self { directory: directory.into(), step, nonce }
    }

    fn path_of(&self, name: Name) -> PathBuf {
        self.directory.join(name.to_string())
    }

    /// Where files are put.
    pub(super) fn path(&self) -> PathBuf {
        self.path_of(Name::Staging { step: self.step, nonce: self.nonce })
    }

    /// Where they will be.
    pub(super) fn target(&self) -> PathBuf {
        self.path_of(Name::Published { step: self.step })
    }

    /// Creates the directory.
    pub(super) fn create(&self, rank: usize) -> Result<()> {
        create_directory(&self.directory, rank)?;
        fs::create_dir(self.path()).io_at(rank, "create", &self.path())
    }

    /// Makes the directory, in which everything is synced, a checkpoint.
    ///
    /// An earlier checkpoint of the same step is moved aside first; between the two renames it is found
    /// under its other name.
    pub(super) fn publish(&self, rank: usize) -> Result<PathBuf> {
        let (staged, target) = (self.path(), self.target());
        sync_directory(&staged, rank)?;
        let replaced = self.path_of(Name::Replaced { step: self.step, nonce: self.nonce });
        let replaces = fs::symlink_metadata(&target).is_ok();
        if replaces {
            fs::rename(&target, &replaced).io_at(rank, "move aside", &target)?;
        }
        fs::rename(&staged, &target).io_at(rank, "rename to", &target)?;
        sync_directory(&self.directory, rank)?;
        if replaces && let Err(error) = fs::remove_dir_all(&replaced) {
            log::warn!("rank {rank}: cannot remove {}: {error}", replaced.display());
        }
        Ok(target)
    }

    /// Removes what was written, as far as possible.
    pub(super) fn discard(&self, rank: usize) {
        match fs::remove_dir_all(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("rank {rank}: cannot remove {}: {error}", self.path().display());
            }
            _ => {}
        }
    }
}
