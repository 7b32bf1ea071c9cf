//! Right checksums around hostile contents, written from the formats' documentation.

/// CRC-32C bit by bit: slow, and not the implementation that the parsers use.
#[must_use]
pub fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}

/// `MAGIC VERSION LENGTH CHECKSUM`, a line feed, `body`. What begins with `magic` itself stays as it is, so that first
/// lines are fuzzed, too.
#[must_use]
pub fn wrap(magic: &str, version: u32, body: &[u8]) -> Vec<u8> {
    if body.starts_with(magic.as_bytes()) {
        return body.to_vec();
    }
    let head = format!("{magic} {version} {} {:08x}\n", body.len(), crc32c(body));
    [head.as_bytes(), body].concat()
}

/// The body of a file that [`wrap`] could have made.
#[must_use]
pub fn body(file: &[u8]) -> &[u8] {
    let end = file.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    &file[end..]
}

const OPENING: &[u8] = b"{\n\"crc32c\": \"";
const MIDDLE: &[u8] = b"\",\n\"manifest\": ";
const CLOSING: &[u8] = b"\n}\n";

/// A checkpoint's manifest around `body`; what begins as one stays as it is.
#[must_use]
pub fn manifest(body: &[u8]) -> Vec<u8> {
    if body.starts_with(OPENING) {
        return body.to_vec();
    }
    let checksum = format!("{:08x}", crc32c(body));
    [OPENING, checksum.as_bytes(), MIDDLE, body, CLOSING].concat()
}

/// The body of a manifest.
#[must_use]
pub fn manifest_body(file: &[u8]) -> &[u8] {
    let start = OPENING.len() + 8 + MIDDLE.len();
    file.get(start..file.len() - CLOSING.len()).expect("a manifest")
}
