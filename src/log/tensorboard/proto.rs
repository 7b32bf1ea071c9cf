//! Protocol Buffers' wire format, as much of it as event files need.
//!
//! A message is a sequence of fields. A field is a varint `number << 3 | wire type` and a value:
//!
//! | wire type | value |
//! |---|---|
//! | 0 | varint: seven bits a byte, lowest first, the top bit set on all but the last |
//! | 1 | eight bytes, little endian (`double`) |
//! | 2 | a varint length and so many bytes (`string`, `bytes`, messages, packed `repeated`) |
//! | 5 | four bytes, little endian (`float`) |
//!
//! Fields are written whenever they are set, zero or not: inside a `oneof` a zero differs from nothing.

/// A message under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// An `int64`, `int32` (not negative), `bool` or enumeration.
    pub(super) fn varint(mut self, field: u32, value: u64) -> Self {
        self.key(field, 0);
        self.push_varint(value);
        self
    }

    /// A `double`.
    pub(super) fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A `float`.
    pub(super) fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A `string` or `bytes`.
    pub(super) fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.key(field, 2);
        self.push_varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A message inside this one.
    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// A packed `repeated double`.
    pub(super) fn doubles(self, field: u32, values: &[f64]) -> Self {
        let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, packed)
    }

    fn key(&mut self, field: u32, wire_type: u64) {
        self.push_varint(u64::from(field) << 3 | wire_type);
    }

    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_have_their_known_bytes() {
        // The examples of the encoding's public description: 150, "testing", a message with 150.
        let inner = Message::new().varint(1, 150);
        assert_eq!(inner.0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().bytes(2, "testing").0, *b"\x12\x07testing");
        assert_eq!(Message::new().message(3, &inner).0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::new().double(1, 1.0).0, [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(Message::new().float(2, -2.0).0, [0x15, 0, 0, 0, 0xc0]);
        assert_eq!(Message::new().doubles(6, &[1.0]).0, [0x32, 8, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        assert_eq!(Message::new().varint(16, 0).0, [0x80, 0x01, 0x00]);
    }

    proptest! {
        #[test]
        fn varints_round_trip(value in any::<u64>(), shift in 0..64_u32) {
            let value = value >> shift;
            let bytes = Message::new().varint(1, value).into_bytes();
            let read = bytes[1..].iter().rev().fold(0_u64, |sum, byte| sum << 7 | u64::from(byte & 0x7f));
            prop_assert_eq!(read, value);
            prop_assert!(bytes[1..bytes.len() - 1].iter().all(|byte| byte & 0x80 != 0));
            prop_assert_eq!(bytes[bytes.len() - 1] & 0x80, 0);
        }
    }
}
