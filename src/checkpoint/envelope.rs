//! What stands around the contents of our files: a line that says what they are and how to check them.
//!
//! One line of ASCII, `MAGIC VERSION LENGTH CHECKSUM` and a line feed, then LENGTH bytes and nothing behind
//! them. CHECKSUM is the CRC-32C of these bytes in eight hexadecimal digits. The version is looked at first.

/// Why the contents cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They are of another version.
    Version(String),
    /// They are damaged, or something else altogether.
    Damaged(String),
}

/// The file for `body`.
pub(super) fn wrap(magic: &str, version: u32, body: &[u8]) -> Vec<u8> {
    let mut contents =
        format!("{magic} {version} {} {:08x}\n", body.len(), crc32c::crc32c(body)).into_bytes();
    contents.extend_from_slice(body);
    contents
}

/// The body of a file. Nothing is allocated, whatever the file says of its length.
pub(super) fn unwrap<'a>(magic: &str, version: u32, contents: &'a [u8]) -> Result<&'a [u8], Fault> {
    let damaged = |reason: &str| Fault::Damaged(reason.to_owned());
    let end = contents.iter().take(128).position(|&byte| byte == b'\n');
    let end = end.ok_or_else(|| damaged("its first line is not complete"))?;
    let head = std::str::from_utf8(&contents[..end]).map_err(|_| damaged("its first line is not text"))?;
    let mut words = head.split(' ');
    if words.next() != Some(magic) {
        return Err(damaged("it does not begin as such a file does"));
    }
    let found = words.next().unwrap_or_default();
    if found != version.to_string() {
        return Err(Fault::Version(found.to_owned()));
    }
    let body = &contents[end + 1..];
    // Compared as they are written: other spellings of the same numbers are damage, too.
    let length = body.len().to_string();
    match words.next() {
        Some(word) if word == length => {}
        Some(word) => {
            return Err(Fault::Damaged(format!("{length} bytes follow where there should be {word}")));
        }
        None => return Err(damaged("it has no length")),
    }
    if words.next() != Some(&format!("{:08x}", crc32c::crc32c(body))) {
        return Err(damaged("its checksum does not match"));
    }
    if words.next().is_some() {
        return Err(damaged("its first line has too many words"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_wrapped_is_unwrapped_and_nothing_else_is(
            body in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let whole = wrap("magic", 3, &body);
            prop_assert_eq!(unwrap("magic", 3, &whole).unwrap(), &body[..]);
            prop_assert_eq!(unwrap("magic", 4, &whole), Err(Fault::Version("3".into())));
            prop_assert!(unwrap("other", 3, &whole).is_err());
            let place = cut.index(whole.len());
            prop_assert!(unwrap("magic", 3, &whole[..place]).is_err());
            let mut flipped = whole;
            flipped[place] ^= 1 << bit;
            prop_assert!(unwrap("magic", 3, &flipped).is_err());
        }

        #[test]
        fn hostile_lengths_are_errors(length in any::<u64>(), checksum in any::<u32>(), body in ".{0,40}") {
            let contents = format!("magic 1 {length} {checksum:08x}\n{body}");
            prop_assert!(unwrap("magic", 1, contents.as_bytes()).is_err());
        }
    }
}
