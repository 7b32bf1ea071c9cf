//! Values of metadata, left in the file where they are long.

use super::cursor::Cursor;
use std::ops::Range;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    /// Where its bytes lie, which are UTF-8 for all that is known.
    String(Range<usize>),
    /// Where the elements lie.
    Array {
        kind: ValueKind,
        count: u64,
        bytes: Range<usize>,
    },
}

/// The type of a value, or of each element of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueKind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, String> {
        let number = cursor.u32()?;
        let known = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number));
        known.copied().ok_or_else(|| format!("is of type {number}, which the format does not have"))
    }

    /// The size of a number; strings and arrays have their own.
    fn bytes(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// The number in `bytes`, which are as many as [`bytes`](Self::bytes) says.
    fn number(self, bytes: &[u8]) -> Option<Value> {
        Some(match self {
            Self::U8 => Value::Unsigned(bytes.first().copied()?.into()),
            Self::I8 => Value::Signed(bytes.first().copied()?.cast_signed().into()),
            Self::Bool => Value::Bool(bytes.first().copied()? != 0),
            Self::U16 => Value::Unsigned(u16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I16 => Value::Signed(i16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U32 => Value::Unsigned(u32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I32 => Value::Signed(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U64 => Value::Unsigned(u64::from_le_bytes(bytes.try_into().ok()?)),
            Self::I64 => Value::Signed(i64::from_le_bytes(bytes.try_into().ok()?)),
            // Of all numbers that are this f32, the shortest is what its maker wrote: 1e-5, not 9.999999747e-6.
            Self::F32 => {
                let value = f32::from_le_bytes(bytes.try_into().ok()?);
                Value::Float(value.to_string().parse().unwrap_or(value.into()))
            }
            Self::F64 => Value::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
            Self::String | Self::Array => return None,
        })
    }
}

impl Value {
    /// The value at the cursor, which moves behind it.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, String> {
        match ValueKind::read(cursor)? {
            ValueKind::String => Ok(Self::String(cursor.string()?)),
            ValueKind::Array => {
                let kind = ValueKind::read(cursor)?;
                let count = cursor.u64()?;
                let start = cursor.position();
                match kind.bytes() {
                    Some(size) => {
                        let bytes = count.checked_mul(size).ok_or_else(|| format!("has {count} elements"))?;
                        cursor.range(bytes)?;
                    }
                    // Every string takes eight bytes at least, so the file's end ends this, too.
                    None if kind == ValueKind::String => {
                        for _ in 0..count {
                            cursor.string()?;
                        }
                    }
                    None => return Err("is an array of arrays, which is not read here".into()),
                }
                Ok(Self::Array { kind, count, bytes: start..cursor.position() })
            }
            kind => {
                let bytes = cursor.take(kind.bytes().unwrap_or_default())?;
                kind.number(bytes).ok_or_else(|| "is a number of another size".into())
            }
        }
    }

    /// The elements of an array of numbers whose bytes are `bytes`.
    pub(super) fn numbers(kind: ValueKind, bytes: &[u8]) -> Option<Vec<Self>> {
        let size = usize::try_from(kind.bytes()?).ok()?;
        bytes.chunks_exact(size).map(|number| kind.number(number)).collect()
    }
}
