//! A file mapped into memory, of which a rank reads parts.

use super::atomic::IoAt;
use crate::error::Result;
use memmap2::{Mmap, UncheckedAdvice};
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

/// A whole file, of which only what is looked at takes memory, and only until it is [released](Self::release).
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    pub(super) fn open(path: &Path, rank: usize) -> Result<Self> {
        let file = File::open(path).io_at(rank, "open", path)?;
        // SAFETY: the map is only read. A file that others cut off meanwhile would end the process with
        // SIGBUS, and one that they overwrite give other weights, as the modules' pages say.
        let map = unsafe { Mmap::map(&file) }.io_at(rank, "map", path)?;
        Ok(Self { path: path.into(), map })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives pages back that were read: they would count as this process's memory as long as the map lives.
    /// Reading them again works, and costs as much as the first time.
    pub(super) fn release(&self, range: Range<usize>) {
        if range.end <= self.map.len() && !range.is_empty() {
            // SAFETY: the map is shared with a file and never written to, so that a page that is dropped comes
            // back with the same bytes.
            let advised = unsafe {
                self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
            };
            if let Err(error) = advised {
                log::debug!("{}: pages are kept: {error}", self.path.display());
            }
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
