//! A file that grows by whole records.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file to which records are appended, each with one `write`, without a buffer in this process.
///
/// A record of which only a part could be written (a full disk) is cut off again: readers of event
/// files stop at a torn record and would never see the ones after it.
#[derive(Debug)]
pub(super) struct AppendFile {
    file: File,
    path: PathBuf,
    /// The length to which the file must be cut before anything else is written.
    torn_after: Option<u64>,
    /// How often it was synced.
    #[cfg(test)]
    pub(super) synced: u32,
}

impl AppendFile {
    /// Opens a file for appending, and makes it if it does not exist.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        Ok(Self::new(file, path))
    }

    /// Makes a file; one that exists already is an error.
    pub(super) fn create_new(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        Ok(Self::new(file, path))
    }

    fn new(file: File, path: PathBuf) -> Self {
        Self {
            file,
            path,
            torn_after: None,
            #[cfg(test)]
            synced: 0,
        }
    }

    /// Whether the file has no name any more: what is written to it then, nobody will find.
    pub(super) fn is_deleted(&self) -> io::Result<bool> {
        #[cfg(unix)]
        return Ok(std::os::unix::fs::MetadataExt::nlink(&self.file.metadata()?) == 0);
        #[cfg(not(unix))]
        Ok(!self.path.exists())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends all of `record` or, if the file can be cut, none of it.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.cut()?;
        let before = self.file.metadata()?.len();
        self.file.write_all(record).inspect_err(|_| {
            self.torn_after = Some(before);
            // If this fails as well, the next append tries again.
            let _ = self.cut();
        })
    }

    fn cut(&mut self) -> io::Result<()> {
        if let Some(length) = self.torn_after {
            // Not every file can be cut (a device, a pipe); one that did not grow need not be.
            if self.file.metadata()?.len() != length {
                self.file.set_len(length)?;
            }
            self.torn_after = None;
        }
        Ok(())
    }

    /// Waits until the disk has everything.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        {
            self.synced += 1;
        }
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_record_is_cut_off_before_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = AppendFile::open(dir.path().join("log")).unwrap();
        file.append(b"first\n").unwrap();
        // What a write that fails half-way leaves, with the disk too broken to cut at once.
        file.file.write_all(b"sec").unwrap();
        file.torn_after = Some(6);
        file.append(b"third\n").unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"first\nthird\n");
    }

    #[test]
    fn a_full_device_fails_every_append_with_the_reason() {
        let mut file = AppendFile::open("/dev/full".into()).unwrap();
        for _ in 0..2 {
            assert_eq!(file.append(b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn a_new_file_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        AppendFile::create_new(path.clone()).unwrap();
        assert_eq!(AppendFile::create_new(path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
