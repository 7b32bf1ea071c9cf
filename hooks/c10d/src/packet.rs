//! The packet that opens every collective: who calls what, and the data itself where it is small.
//!
//! Layout, little-endian, [`PACKET`] bytes:
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | `HPC1` |
//! | 4 | 0: a call, 1: a refusal (the payload is its text) |
//! | 5..8 | collective, reduction, dtype |
//! | 8 | device: 0 CPU, 1 CUDA |
//! | 12..16 | root rank, where there is one |
//! | 16..24 | elements of the input |
//! | 24..32 | number of the collective in this group |
//! | 32..36 | bytes of the payload |
//! | 48.. | payload |

use crate::call::Signature;

const MAGIC: [u8; 4] = *b"HPC1";
const HEADER: usize = 48;

/// The size of a packet: room for the scalars that a probe reduces, and still one network packet.
pub(crate) const PACKET: usize = 1024;

/// What a packet can carry beside its header.
pub(crate) const PAYLOAD: usize = PACKET - HEADER;

/// What one rank says at the start of a collective.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Call(Signature),
    Refusal(String),
}

pub(crate) fn encode(opening: &Opening, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; PACKET];
    packet[..4].copy_from_slice(&MAGIC);
    packet[24..32].copy_from_slice(&sequence.to_le_bytes());
    let payload = match opening {
        Opening::Call(signature) => {
            packet[5..9].copy_from_slice(&[
                signature.collective,
                signature.reduction,
                signature.dtype,
                signature.device,
            ]);
            packet[12..16].copy_from_slice(&signature.root.to_le_bytes());
            packet[16..24].copy_from_slice(&signature.elements.to_le_bytes());
            payload
        }
        Opening::Refusal(reason) => {
            packet[4] = 1;
            let mut end = reason.len().min(PAYLOAD);
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            &reason.as_bytes()[..end]
        }
    };
    let length = payload.len().min(PAYLOAD);
    packet[32..36].copy_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
    packet[HEADER..HEADER + length].copy_from_slice(&payload[..length]);
    packet
}

/// The opening, its sequence number and its payload; `None` where the bytes are not a packet.
pub(crate) fn decode(packet: &[u8]) -> Option<(Opening, u64, &[u8])> {
    if packet.len() != PACKET || packet[..4] != MAGIC {
        return None;
    }
    let word = |at: usize| packet.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let long = |at: usize| packet.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let payload = packet.get(HEADER..HEADER.checked_add(word(32)? as usize)?)?;
    let opening = match packet[4] {
        0 => Opening::Call(Signature {
            collective: packet[5],
            reduction: packet[6],
            dtype: packet[7],
            device: packet[8],
            root: word(12)?,
            elements: long(16)?,
        }),
        1 => Opening::Refusal(String::from_utf8_lossy(payload).into_owned()),
        _ => return None,
    };
    Some((opening, long(24)?, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: Signature =
        Signature { collective: 3, reduction: 1, dtype: 2, device: 0, root: 7, elements: 1 << 40 };

    #[test]
    fn calls_and_refusals_round_trip() {
        let opening = Opening::Call(SIGNATURE);
        let packet = encode(&opening, 99, &[1, 2, 3]);
        assert_eq!(decode(&packet), Some((opening, 99, &[1_u8, 2, 3][..])));

        let opening = Opening::Refusal("not contiguous".into());
        let packet = encode(&opening, 5, &[]);
        assert_eq!(decode(&packet).unwrap().0, opening);
    }

    #[test]
    fn a_long_refusal_is_cut_between_characters() {
        let reason = "é".repeat(PACKET);
        let packet = encode(&Opening::Refusal(reason.clone()), 0, &[]);
        let Some((Opening::Refusal(cut), ..)) = decode(&packet) else { panic!("not a refusal") };
        assert!(reason.starts_with(&cut) && cut.len() > PAYLOAD - 2);
    }

    #[test]
    fn other_bytes_are_not_a_packet() {
        assert_eq!(decode(&[0; PACKET]), None);
        assert_eq!(decode(b"HPC1"), None);
        let mut packet = encode(&Opening::Call(SIGNATURE), 0, &[]);
        packet[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&packet), None);
    }
}
