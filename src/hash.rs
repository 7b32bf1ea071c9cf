//! A hash that is the same on every rank, in every process and in every version.

/// FNV-1a, 64 bits.
pub(crate) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The upper 52 bits, which an f64 carries exactly: for comparing hashes in a reduction.
pub(crate) fn as_f64(hash: u64) -> f64 {
    (hash >> 12) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_gives_the_known_answers() {
        assert_eq!(fnv1a(*b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(*b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(*b"foobar"), 0x8594_4171_f739_67e8);
    }
}
