//! The beginning of a file: what it says of itself, and where its tensors lie.

use super::cursor::Cursor;
use super::metadata::Value;
use super::tensor_type::TensorType;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

/// More pairs or tensors than this no model has; an entry in memory is larger than the least one in a file.
const MOST_ENTRIES: u64 = 1 << 20;

/// Dimensions of a tensor; the format's limit.
const MOST_DIMENSIONS: u32 = 4;

/// Where a tensor lies in its file, and how its elements are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Slowest first, `[out, in]` for a projection: the reverse of the file's order.
    pub shape: Vec<usize>,
    /// How elements are stored.
    pub kind: TensorType,
    /// Its bytes in the file.
    pub bytes: Range<usize>,
}

impl TensorInfo {
    /// The number of elements.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Everything before the data.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// A tensor as the file describes it, before its place is known.
struct Claim {
    name: String,
    shape: Vec<u64>,
    kind: TensorType,
    offset: u64,
}

impl Header {
    /// Parses the whole `file`, and checks every claim against its length.
    pub(super) fn parse(file: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor::new(file);
        if cursor.take(4)? != b"GGUF" {
            return Err("does not begin with `GGUF`".into());
        }
        let version = cursor.u32()?;
        match version {
            2 | 3 => {}
            _ if matches!(version.swap_bytes(), 1..=3) => {
                return Err("is big-endian; only little-endian files can be read".into());
            }
            _ => return Err(format!("is of version {version}; 2 and 3 can be read")),
        }
        let (tensors, pairs) = (cursor.u64()?, cursor.u64()?);
        for (what, count) in [("tensors", tensors), ("pairs of metadata", pairs)] {
            if count > MOST_ENTRIES {
                return Err(format!("claims {count} {what}; at most {MOST_ENTRIES} are possible"));
            }
        }
        let mut metadata = BTreeMap::new();
        for index in 0..pairs {
            let at = |error: String| format!("pair {index} of the metadata: {error}");
            let key = cursor.str().map_err(at)?.to_owned();
            let value = Value::read(&mut cursor).map_err(|error| format!("`{key}`: {error}"))?;
            match metadata.entry(key) {
                Entry::Vacant(entry) => _ = entry.insert(value),
                Entry::Occupied(entry) => return Err(format!("`{}` is there twice", entry.key())),
            }
        }
        let mut claims = Vec::new();
        for index in 0..tensors {
            claims.push(Claim::read(&mut cursor, index)?);
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Unsigned(alignment)) if alignment.is_power_of_two() => *alignment,
            Some(other) => return Err(format!("`general.alignment` is {other:?}, must be a power of two")),
        };
        let data = (cursor.position() as u64).checked_next_multiple_of(alignment);
        let mut placed = BTreeMap::new();
        for claim in claims {
            let name = claim.name.clone();
            let info =
                claim.place(file.len(), data, alignment).map_err(|error| format!("`{name}` {error}"))?;
            match placed.entry(name) {
                Entry::Vacant(entry) => _ = entry.insert(info),
                Entry::Occupied(entry) => return Err(format!("`{}` is there twice", entry.key())),
            }
        }
        Ok(Self { metadata, tensors: placed })
    }
}

impl Claim {
    fn read(cursor: &mut Cursor<'_>, index: u64) -> Result<Self, String> {
        let name = cursor.str().map_err(|error| format!("tensor {index}: {error}"))?.to_owned();
        let at = |error: String| format!("`{name}` {error}");
        let dimensions = cursor.u32().map_err(at)?;
        if dimensions == 0 || dimensions > MOST_DIMENSIONS {
            return Err(at(format!("has {dimensions} dimensions; 1 to {MOST_DIMENSIONS} are possible")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(cursor.u64().map_err(at)?);
        }
        let kind = TensorType::from_number(cursor.u32().map_err(at)?).map_err(at)?;
        let offset = cursor.u64().map_err(at)?;
        shape.reverse();
        Ok(Self { name, shape, kind, offset })
    }

    /// The place of the tensor, where it fits into the file.
    fn place(&self, file: usize, data: Option<u64>, alignment: u64) -> Result<TensorInfo, String> {
        let shape = &self.shape;
        let too_large = || format!("has shape {shape:?}, which is too large");
        let numel = shape.iter().try_fold(1_u64, |numel, &size| numel.checked_mul(size));
        let numel = numel.filter(|&numel| i64::try_from(numel).is_ok()).ok_or_else(too_large)?;
        let (elements, bytes) = (self.kind.block_elements() as u64, self.kind.block_bytes() as u64);
        let row = shape.last().copied().unwrap_or_default();
        if numel == 0 || !row.is_multiple_of(elements) {
            return Err(format!(
                "has shape {shape:?}; a row of type {} has a multiple of {elements} elements",
                self.kind.name()
            ));
        }
        if !self.offset.is_multiple_of(alignment) {
            return Err(format!(
                "begins at byte {} of the data, which is not aligned to {alignment}",
                self.offset
            ));
        }
        let length = (numel / elements).checked_mul(bytes).ok_or_else(too_large)?;
        let start = data.and_then(|data| data.checked_add(self.offset));
        let end = start.and_then(|start| start.checked_add(length));
        match (start, end) {
            (Some(start), Some(end)) if end <= file as u64 => Ok(TensorInfo {
                shape: shape
                    .iter()
                    .map(|&size| usize::try_from(size))
                    .collect::<Result<_, _>>()
                    .map_err(|_| too_large())?,
                kind: self.kind,
                bytes: usize::try_from(start).map_err(|_| too_large())?
                    ..usize::try_from(end).map_err(|_| too_large())?,
            }),
            _ => Err(format!(
                "takes {length} bytes from byte {} of the data on, but the file ends before: it is cut off",
                self.offset
            )),
        }
    }
}
