//! A second reader of event files: TFRecord frames around Protocol Buffers, as much as can be said of them without
//! the schema, and what TensorBoard needs of a histogram.

use crate::envelope::crc32c;

/// The records of an event file.
///
/// # Panics
/// Where its frames are not whole, or a checksum is not right.
#[must_use]
pub fn records(mut file: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let Some((head, rest)) = file.split_first_chunk::<8>() {
        let (checksum, rest) = rest.split_first_chunk::<4>().expect("a checksum of the length");
        assert_eq!(unmasked(*checksum), crc32c(head), "the checksum of a length");
        let length = usize::try_from(u64::from_le_bytes(*head)).expect("a length");
        let (data, rest) = rest.split_at_checked(length).expect("the data");
        let (checksum, rest) = rest.split_first_chunk::<4>().expect("a checksum of the data");
        assert_eq!(unmasked(*checksum), crc32c(data), "the checksum of a record");
        records.push(data);
        file = rest;
    }
    assert!(file.is_empty(), "{} bytes are left", file.len());
    records
}

fn unmasked(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes).wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    /// `int64`, `enum`.
    Varint(u64),
    /// `double`.
    Double(f64),
    /// `string`, `bytes`, messages, packed fields.
    Bytes(&'a [u8]),
    /// `float`.
    Float(f32),
}

/// The fields of a message with their numbers.
///
/// # Panics
/// Where it is none.
#[must_use]
pub fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut message)),
            1 => Field::Double(f64::from_le_bytes(take(&mut message, 8).try_into().expect("eight bytes"))),
            2 => {
                let length = varint(&mut message);
                Field::Bytes(take(&mut message, usize::try_from(length).expect("a length")))
            }
            5 => Field::Float(f32::from_le_bytes(take(&mut message, 4).try_into().expect("four bytes"))),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn take<'a>(message: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = message.split_at_checked(count).expect("so many bytes");
    *message = rest;
    taken
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes");
}

/// Checks an event down to its values.
///
/// # Panics
/// Where a reader with the schema would refuse it.
pub fn check_event(event: &[u8]) {
    for (number, field) in fields(event) {
        match (number, field) {
            (1, Field::Double(_)) => {}
            (2, Field::Varint(step)) => assert!(i64::try_from(step).is_ok(), "a negative step"),
            (3, Field::Bytes(version)) => assert_eq!(version, b"brain.Event:2"),
            (7, Field::Bytes(session)) => assert!(matches!(fields(session)[..], [(1, Field::Varint(1))])),
            (5, Field::Bytes(summary)) => {
                for value in fields(summary) {
                    let (1, Field::Bytes(value)) = value else { panic!("{value:?} in a summary") };
                    check_value(value);
                }
            }
            other => panic!("{other:?} in an event"),
        }
    }
}

fn check_value(value: &[u8]) {
    let (mut tags, mut contents) = (0, 0);
    for (number, field) in fields(value) {
        match (number, field) {
            (1, Field::Bytes(tag)) => {
                assert!(!std::str::from_utf8(tag).expect("a tag is UTF-8").is_empty());
                tags += 1;
            }
            (9, Field::Bytes(metadata)) => drop(fields(metadata)),
            (2, Field::Float(_)) => contents += 1,
            (4, Field::Bytes(image)) => {
                check_image(image);
                contents += 1;
            }
            (5, Field::Bytes(histogram)) => {
                check_histogram(histogram);
                contents += 1;
            }
            (8, Field::Bytes(tensor)) => {
                drop(fields(tensor));
                contents += 1;
            }
            other => panic!("{other:?} in a value"),
        }
    }
    assert_eq!((tags, contents), (1, 1));
}

fn check_image(image: &[u8]) {
    for (number, field) in fields(image) {
        match (number, field) {
            (1 | 2, Field::Varint(size)) => assert!((1..10_000).contains(&size), "field {number} is {size}"),
            (3, Field::Varint(colors)) => assert_eq!(colors, 3),
            (4, Field::Bytes(png)) => assert!(png.starts_with(b"\x89PNG\r\n\x1a\n")),
            other => panic!("{other:?} in an image"),
        }
    }
}

fn check_histogram(histogram: &[u8]) {
    let (mut limits, mut counts) = (Vec::new(), Vec::new());
    for (number, field) in fields(histogram) {
        match (number, field) {
            (1..=5, Field::Double(value)) => assert!(value.is_finite(), "field {number} is {value}"),
            (6, Field::Bytes(packed)) => limits = doubles(packed),
            (7, Field::Bytes(packed)) => counts = doubles(packed),
            other => panic!("{other:?} in a histogram"),
        }
    }
    assert_eq!(limits.len(), counts.len());
    assert!(limits.is_sorted(), "{limits:?}");
    assert!(counts.iter().all(|count| count.is_finite() && *count >= 0.0), "{counts:?}");
}

fn doubles(packed: &[u8]) -> Vec<f64> {
    let (chunks, rest) = packed.as_chunks::<8>();
    assert!(rest.is_empty());
    chunks.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}
