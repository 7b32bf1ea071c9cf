//! A vector's file with the checksum that its data have.

use crate::envelope::crc32c;
use safetensors::SafeTensors;

const KEY: &[u8] = b"\"crc32c\":\"";

/// Puts the checksum of the tensors, in the order of their names, into the metadata of a safetensors file that has room
/// for one; any other file stays as it is.
pub fn mend(file: &mut [u8]) {
    let Ok(parsed) = SafeTensors::deserialize(file) else { return };
    let mut tensors = parsed.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let data: Vec<u8> = tensors.iter().flat_map(|(_, view)| view.data()).copied().collect();
    let checksum = format!("{:08x}", crc32c(&data));
    let Some(at) = file.windows(KEY.len()).position(|window| window == KEY) else { return };
    if let Some(place) = file.get_mut(at + KEY.len()..at + KEY.len() + 8) {
        place.copy_from_slice(checksum.as_bytes());
    }
}
