//! A file with its metadata and tensors.

use super::metadata::Value;
use super::parse::{Header, TensorInfo};
use crate::checkpoint::mapped::MappedFile;
use crate::error::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// A GGUF file, mapped into memory, whose beginning was read and checked.
#[derive(Debug)]
pub struct GgufFile {
    map: MappedFile,
    header: Header,
}

impl GgufFile {
    /// Reads the metadata and where the tensors lie. The file must not be changed as long as this lives.
    ///
    /// # Errors
    /// [`Io`](Error::Io); [`Gguf`](Error::Gguf) where it is not a whole GGUF file of tensors that can be read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_on(path, 0)
    }

    pub(super) fn open_on(path: &Path, rank: usize) -> Result<Self> {
        let map = MappedFile::open(path, rank)?;
        let header = Header::parse(&map).map_err(|reason| Error::Gguf { path: path.into(), reason })?;
        Ok(Self { map, header })
    }

    /// The tensors by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.header.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensors.get(name)
    }

    /// Appends elements `range` of the flattened tensor to `elements`, as f32. Only the blocks with these elements are
    /// read, and their pages given back.
    ///
    /// # Errors
    /// [`Gguf`](Error::Gguf) where the tensor does not have these elements.
    pub fn dequantize(&self, info: &TensorInfo, range: Range<usize>, elements: &mut Vec<f32>) -> Result<()> {
        if range.start > range.end || range.end > info.numel() {
            let numel = info.numel();
            return Err(self.error(format!("elements {range:?} of a tensor of {numel} were asked for")));
        }
        let (block, size) = (info.kind.block_elements(), info.kind.block_bytes());
        let (first, last) = (range.start / block, range.end.div_ceil(block));
        let place = info.bytes.start + first * size..info.bytes.start + last * size;
        let bytes = self.map.get(place.clone()).ok_or_else(|| self.error("is not the tensor's file"))?;
        let start = elements.len();
        info.kind.dequantize(bytes, elements);
        elements.drain(start..start + (range.start - first * block));
        elements.truncate(start + range.len());
        self.map.release(place);
        Ok(())
    }

    /// The keys of the metadata.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.header.metadata.keys().map(String::as_str)
    }

    /// The text under `key`.
    ///
    /// # Errors
    /// [`Gguf`](Error::Gguf) where there is no such key, or something else under it.
    pub fn string(&self, key: &str) -> Result<&str> {
        self.required(key, "a string", |value| match value {
            Value::String(range) => self.text(range.clone()),
            _ => None,
        })
    }

    /// The texts under `key`.
    ///
    /// # Errors
    /// As [`string`](Self::string).
    pub fn strings(&self, key: &str) -> Result<Vec<&str>> {
        self.required(key, "an array of strings", |value| match value {
            Value::Array { kind: super::metadata::ValueKind::String, count, bytes } => {
                let bytes = self.map.get(bytes.clone())?;
                let mut cursor = super::cursor::Cursor::new(bytes);
                (0..*count).map(|_| cursor.str().ok()).collect()
            }
            _ => None,
        })
    }

    /// The whole numbers under `key`.
    ///
    /// # Errors
    /// As [`string`](Self::string).
    pub fn integers(&self, key: &str) -> Result<Vec<i64>> {
        self.required(key, "an array of whole numbers", |value| match value {
            Value::Array { kind, bytes, .. } => {
                Value::numbers(*kind, self.map.get(bytes.clone())?)?.iter().map(integer).collect()
            }
            _ => None,
        })
    }

    /// The whole number under `key`; `None` where there is no such key.
    ///
    /// # Errors
    /// [`Gguf`](Error::Gguf) where something else is under it.
    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.optional(key, "a whole number", integer)
    }

    /// The number under `key`; `None` where there is no such key.
    ///
    /// # Errors
    /// [`Gguf`](Error::Gguf) where something else is under it.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, "a number", |value| match value {
            Value::Float(value) => Some(*value),
            _ => integer(value).map(|value| value as f64),
        })
    }

    /// The truth value under `key`; `None` where there is no such key.
    ///
    /// # Errors
    /// [`Gguf`](Error::Gguf) where something else is under it.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.optional(key, "true or false", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    pub(super) fn optional<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.header.metadata.get(key) {
            None => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.error(format!("`{key}` is {}, must be {expected}", self.shown(value)))),
        }
    }

    fn required<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T> {
        self.optional(key, expected, read)?.ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Gguf { path: self.map.path().into(), reason: reason.into() }
    }

    /// A value for a message.
    pub(super) fn shown(&self, value: &Value) -> String {
        match value {
            Value::Unsigned(value) => value.to_string(),
            Value::Signed(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::String(range) => {
                let text = self.text(range.clone()).unwrap_or("not UTF-8");
                format!("{:?}", text.chars().take(60).collect::<String>())
            }
            Value::Array { kind, count, .. } => format!("an array of {count} {kind:?}"),
        }
    }

    /// A key's value for a message.
    pub(super) fn shown_key(&self, key: &str) -> String {
        self.header.metadata.get(key).map_or_else(|| "missing".into(), |value| self.shown(value))
    }

    fn text(&self, range: Range<usize>) -> Option<&str> {
        std::str::from_utf8(self.map.get(range)?).ok()
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Unsigned(value) => i64::try_from(*value).ok(),
        Value::Signed(value) => Some(*value),
        _ => None,
    }
}
