//! TFRecord framing: how records follow each other in an event file.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | length of the data, u64, little endian |
//! | 4 | masked CRC-32C of these 8 bytes, u32, little endian |
//! | length | the data |
//! | 4 | masked CRC-32C of the data |
//!
//! The mask rotates the checksum right by 15 bits and adds a constant, because a checksum of data that
//! holds checksums is weak.

const MASK_DELTA: u32 = 0xa282_ead8;

/// Appends one framed record to `out`.
pub(super) fn frame(data: &[u8], out: &mut Vec<u8>) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked_crc32c(data).to_le_bytes());
}

fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn checksums_have_their_known_values() {
        // The check values of CRC-32C (RFC 3720, B.4), and what TensorBoard's own code makes of them.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc32c(b""), 0xa282_ead8);
        assert_eq!(masked_crc32c(b"123456789"), 0xc78a_b0e5);
        assert_eq!(masked_crc32c(&[0; 32]), 0x0fd7_fffa);
        assert_eq!(masked_crc32c(&[0xff; 32]), 0xf909_b029);
    }

    #[test]
    fn a_frame_has_its_known_bytes() {
        let mut out = Vec::new();
        frame(b"123456789", &mut out);
        let mut expected = vec![9, 0, 0, 0, 0, 0, 0, 0];
        expected.extend(masked_crc32c(&[9, 0, 0, 0, 0, 0, 0, 0]).to_le_bytes());
        expected.extend(b"123456789");
        expected.extend([0xe5, 0xb0, 0x8a, 0xc7]);
        assert_eq!(out, expected);
    }

    /// A second implementation: bitwise CRC-32C, unmasking instead of masking.
    fn crc_bit_by_bit(data: &[u8]) -> u32 {
        !data.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
        })
    }

    fn unmask(masked: u32) -> u32 {
        masked.wrapping_sub(MASK_DELTA).rotate_left(15)
    }

    fn read(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut records = Vec::new();
        let word = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?));
        while !bytes.is_empty() {
            let length = bytes.get(..8)?;
            if unmask(word(&bytes[8..])?) != crc_bit_by_bit(length) {
                return None;
            }
            let end = 12 + usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
            let data = bytes.get(12..end)?;
            if unmask(word(&bytes[end..])?) != crc_bit_by_bit(data) {
                return None;
            }
            records.push(data.to_vec());
            bytes = &bytes[end + 4..];
        }
        Some(records)
    }

    proptest! {
        #[test]
        fn frames_round_trip(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let mut out = Vec::new();
            records.iter().for_each(|record| frame(record, &mut out));
            prop_assert_eq!(read(&out), Some(records));
        }

        #[test]
        fn a_flipped_bit_is_noticed(record in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let mut out = Vec::new();
            frame(&record, &mut out);
            let at = at.index(out.len());
            out[at] ^= 1_u8 << bit;
            prop_assert_eq!(read(&out), None);
        }
    }
}
