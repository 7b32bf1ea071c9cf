//! Reading from bytes whose lengths cannot be trusted.

use std::ops::Range;

/// A place in the bytes of a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The number of bytes before this place.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next `count` bytes, if there are so many; a count is a file's claim and may be anything.
    pub(super) fn range(&mut self, count: u64) -> Result<Range<usize>, String> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(count) if count <= left => {
                self.at += count;
                Ok(self.at - count..self.at)
            }
            _ => Err(format!("{count} bytes are said to follow byte {}, but only {left} do", self.at)),
        }
    }

    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let range = self.range(count)?;
        self.bytes.get(range).ok_or_else(|| "a range outside of the file".into())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| "a number of another size".into())
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// Where the bytes of a string lie.
    pub(super) fn string(&mut self) -> Result<Range<usize>, String> {
        let length = self.u64()?;
        self.range(length)
    }

    pub(super) fn str(&mut self) -> Result<&'a str, String> {
        let range = self.string()?;
        let start = range.start;
        let bytes = self.bytes.get(range).unwrap_or_default();
        std::str::from_utf8(bytes)
            .map_err(|error| format!("the string at byte {start} is not UTF-8: {error}"))
    }
}
