//! Files with a checksum of every chunk: written in one go, read in any range, and never believed
//! unchecked.

use super::atomic::IoAt;
use super::manifest::FileEntry;
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The bytes that one checksum is for: what a rank reads at least, and a checksum's share of the manifest.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;

/// The number of checksums of a file.
pub(super) fn chunks(bytes: u64, chunk_bytes: u64) -> u64 {
    bytes.div_ceil(chunk_bytes.max(1))
}

/// The checksums of bytes that come piece by piece.
#[derive(Debug)]
struct Checksums {
    chunk_bytes: u64,
    /// Of the last chunk, and how many bytes of it there are.
    current: u32,
    filled: u64,
    done: Vec<u32>,
}

impl Checksums {
    fn new(chunk_bytes: u64) -> Self {
        Self { chunk_bytes, current: 0, filled: 0, done: Vec::new() }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.chunk_bytes - self.filled).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.current = crc32c::crc32c_append(self.current, now);
            self.filled += now.len() as u64;
            if self.filled == self.chunk_bytes {
                self.done.push(self.current);
                (self.current, self.filled) = (0, 0);
            }
            bytes = later;
        }
    }

    fn finish(mut self) -> Vec<u32> {
        if self.filled > 0 {
            self.done.push(self.current);
        }
        self.done
    }
}

/// Writes a new file and computes its checksums on the way.
#[derive(Debug)]
pub(super) struct ChecksumWriter {
    file: BufWriter<File>,
    path: PathBuf,
    rank: usize,
    bytes: u64,
    checksums: Checksums,
}

impl ChecksumWriter {
    /// Creates `path`, which must not exist.
    pub(super) fn create(path: &Path, chunk_bytes: u64, rank: usize) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path).io_at(rank, "create", path)?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.into(),
            rank,
            bytes: 0,
            checksums: Checksums::new(chunk_bytes),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).io_at(self.rank, "write", &self.path)?;
        self.bytes += bytes.len() as u64;
        self.checksums.add(bytes);
        Ok(())
    }

    /// Syncs the file; returns its length and checksums.
    pub(super) fn finish(self) -> Result<(u64, Vec<u32>)> {
        let sync = || self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all();
        sync().io_at(self.rank, "write", &self.path)?;
        Ok((self.bytes, self.checksums.finish()))
    }
}

/// Syncs a file that others wrote; returns its length and checksums.
pub(super) fn checksum_file(path: &Path, chunk_bytes: u64, rank: usize) -> Result<(u64, Vec<u32>)> {
    let mut file = File::open(path).io_at(rank, "open", path)?;
    file.sync_all().io_at(rank, "sync", path)?;
    let (mut checksums, mut bytes, mut buffer) = (Checksums::new(chunk_bytes), 0, vec![0; 1 << 16]);
    loop {
        let count = file.read(&mut buffer).io_at(rank, "read", path)?;
        if count == 0 {
            return Ok((bytes, checksums.finish()));
        }
        bytes += count as u64;
        checksums.add(buffer.get(..count).unwrap_or_default());
    }
}

/// A file of a checkpoint whose bytes are checked before they are handed out.
#[derive(Debug)]
pub(super) struct VerifiedFile<'a> {
    entry: &'a FileEntry,
    path: PathBuf,
    file: File,
    rank: usize,
    /// The chunk read last: neighbouring ranges share one.
    chunk: Vec<u8>,
    index: Option<u64>,
}

impl<'a> VerifiedFile<'a> {
    /// Opens `entry`'s file in the checkpoint `root` and checks its length.
    pub(super) fn open(root: &Path, entry: &'a FileEntry, rank: usize) -> Result<Self> {
        let path = root.join(&entry.path);
        let damaged = |reason: String| Err(Error::Damaged { rank, path: path.clone(), reason });
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return damaged("is missing".into());
            }
            other => other.io_at(rank, "open", &path)?,
        };
        let metadata = file.metadata().io_at(rank, "open", &path)?;
        if !metadata.is_file() {
            return damaged("is not a file".into());
        }
        if metadata.len() != entry.bytes {
            return damaged(format!(
                "has {} bytes, not the {} that were written",
                metadata.len(),
                entry.bytes
            ));
        }
        Ok(Self { entry, path, file, rank, chunk: Vec::new(), index: None })
    }

    /// Hands out the bytes of `range` in order, in pieces that end at the ends of chunks.
    pub(super) fn read(
        &mut self,
        range: Range<u64>,
        mut sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let size = self.entry.chunk_bytes;
        let mut at = range.start;
        while at < range.end {
            let index = at / size;
            self.load(index)?;
            let start = index * size;
            let end = range.end.min(start + self.chunk.len() as u64);
            // A chunk fits into memory, so its offsets fit usize.
            let piece = self.chunk.get((at - start) as usize..end.saturating_sub(start) as usize);
            match piece {
                Some(piece) if !piece.is_empty() => sink(piece)?,
                _ => return self.damaged(format!("ends before byte {}", range.end)),
            }
            at = end;
        }
        Ok(())
    }

    /// Checks every byte.
    pub(super) fn verify(&mut self) -> Result<()> {
        self.read(0..self.entry.bytes, |_| Ok(()))
    }

    fn load(&mut self, index: u64) -> Result<()> {
        if self.index == Some(index) {
            return Ok(());
        }
        self.index = None;
        let size = self.entry.chunk_bytes;
        let start = index * size;
        let length = size.min(self.entry.bytes.saturating_sub(start));
        self.chunk.resize(length as usize, 0);
        let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.read_exact(&mut self.chunk));
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return self.damaged("became shorter while it was read".into());
            }
            other => other.io_at(self.rank, "read", &self.path)?,
        }
        let expected = usize::try_from(index).ok().and_then(|index| self.entry.crc32c.get(index));
        if expected != Some(&crc32c::crc32c(&self.chunk)) {
            return self
                .damaged(format!("bytes {start} to {} are not those that were written", start + length));
        }
        self.index = Some(index);
        Ok(())
    }

    fn damaged(&self, reason: String) -> Result<()> {
        Err(Error::Damaged { rank: self.rank, path: self.path.clone(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8], chunk_bytes: u64) -> (tempfile::TempDir, FileEntry) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mut writer = ChecksumWriter::create(&path, chunk_bytes, 0).unwrap();
        for piece in bytes.chunks(7) {
            writer.write(piece).unwrap();
        }
        let (length, crc32c) = writer.finish().unwrap();
        assert_eq!(checksum_file(&path, chunk_bytes, 0).unwrap(), (length, crc32c.clone()));
        (directory, FileEntry { path: "f".into(), bytes: length, chunk_bytes, crc32c })
    }

    #[test]
    fn every_range_is_read_as_written_with_any_chunk_size() {
        let bytes: Vec<u8> = (0..100).collect();
        for chunk_bytes in [8, 16, 24, 96, 100, 104, 1 << 20] {
            let (directory, entry) = written(&bytes, chunk_bytes);
            assert_eq!(entry.crc32c.len() as u64, chunks(100, chunk_bytes));
            let mut file = VerifiedFile::open(directory.path(), &entry, 0).unwrap();
            for start in 0..=100 {
                for end in start..=100 {
                    let mut found = Vec::new();
                    file.read(start..end, |piece| {
                        found.extend_from_slice(piece);
                        Ok(())
                    })
                    .unwrap();
                    assert_eq!(found, bytes[start as usize..end as usize]);
                }
            }
            assert!(file.read(50..101, |_| Ok(())).is_err(), "beyond the end");
        }
    }

    #[test]
    fn a_flipped_bit_is_found_by_whoever_reads_its_chunk_and_by_nobody_else() {
        let bytes: Vec<u8> = (0..100).collect();
        let (directory, entry) = written(&bytes, 16);
        let path = directory.path().join("f");
        for flipped in 0..100 {
            let mut changed = bytes.clone();
            changed[flipped] ^= 1 << (flipped % 8);
            std::fs::write(&path, &changed).unwrap();
            let mut file = VerifiedFile::open(directory.path(), &entry, 3).unwrap();
            for other in 0..100_u64 {
                let read = file.read(other..other + 1, |_| Ok(()));
                assert_eq!(read.is_err(), other / 16 == flipped as u64 / 16);
            }
            let error = file.verify().unwrap_err();
            assert!(error.is_damage());
            let message = error.to_string();
            assert!(message.contains("rank 3") && message.contains(path.to_str().unwrap()), "{message}");
        }
    }

    #[test]
    fn an_empty_file_has_no_checksum() {
        let (directory, entry) = written(&[], 16);
        assert!(entry.crc32c.is_empty());
        VerifiedFile::open(directory.path(), &entry, 0).unwrap().verify().unwrap();
    }
}
