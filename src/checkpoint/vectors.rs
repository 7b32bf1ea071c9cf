//! Sharded vectors as files: each rank writes what it counts, and any number of ranks reads them by global index.
//!
//! # Format
//! safetensors, a tensor a segment, named by the global index of its first entry; the metadata has the CRC-32C of
//! the data, tensors in the order of their names.

use crate::sharded::layout::{Layout, Segment};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::io;
use tch::{Kind, Tensor};

const CHECKSUM: &str = "crc32c";

/// The counted segments of a local vector.
fn counted(layout: &Layout) -> impl Iterator<Item = &Segment> {
    layout.segments().iter().filter(|segment| segment.start < layout.counted_len())
}

/// What this rank counts of a local vector.
pub(crate) fn serialise(layout: &Layout, vector: &Tensor) -> io::Result<Vec<u8>> {
    let dtype = if layout.kind() == Kind::Double { Dtype::F64 } else { Dtype::F32 };
    let size = layout.kind().elt_size_in_bytes();
    let mut checksum = 0;
    let mut segments = Vec::new();
    for segment in counted(layout) {
        let mut bytes = vec![0; segment.len as usize * size];
        vector
            .f_narrow(0, segment.start, segment.len)
            .and_then(|piece| piece.f_to_device(tch::Device::Cpu)?.f_contiguous())
            .and_then(|piece| piece.f_copy_data_u8(&mut bytes, segment.len as usize))
            .map_err(io::Error::other)?;
        segments.push((segment.global_offset, segment.len as usize, bytes));
    }
    // safetensors orders tensors of one type by name; so must the checksum.
    segments.sort_by_key(|(offset, ..)| offset.to_string());
    let mut views = Vec::new();
    for (offset, len, bytes) in &segments {
        checksum = crc32c::crc32c_append(checksum, bytes);
        views
            .push((offset.to_string(), TensorView::new(dtype, vec![*len], bytes).map_err(io::Error::other)?));
    }
    let metadata = HashMap::from([(CHECKSUM.to_owned(), format!("{checksum:08x}"))]);
    safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)
}

/// Copies what a rank's file has of this rank's entries; returns how many.
pub(crate) fn restore(layout: &Layout, row: &Tensor, contents: &[u8]) -> io::Result<i64> {
    let (_, header) = SafeTensors::read_metadata(contents).map_err(|error| invalid(error.to_string()))?;
    let file = SafeTensors::deserialize(contents).map_err(|error| invalid(error.to_string()))?;
    let mut saved: Vec<(String, TensorView<'_>)> = file.tensors();
    saved.sort_by(|a, b| a.0.cmp(&b.0));
    let checksum = saved.iter().fold(0, |checksum, (_, view)| crc32c::crc32c_append(checksum, view.data()));
    let expected = header.metadata().as_ref().and_then(|metadata| metadata.get(CHECKSUM).cloned());
    if expected != Some(format!("{checksum:08x}")) {
        return Err(invalid("its checksum does not match"));
    }
    let dtype = if layout.kind() == Kind::Double { Dtype::F64 } else { Dtype::F32 };
    let size = layout.kind().elt_size_in_bytes();
    let _no_grad = tch::no_grad_guard();
    let mut filled = 0;
    for (name, view) in &saved {
        let offset: u64 = name.parse().map_err(|_| invalid(format!("`{name}` is not a global index")))?;
        let len = (view.data().len() / size) as u64;
        if view.dtype() != dtype {
            return Err(invalid("its vectors are of another type"));
        }
        for segment in layout.segments() {
            let from = segment.global_offset.max(offset);
            let to = (segment.global_offset + segment.len as u64).min(offset.saturating_add(len));
            if from < to {
                let bytes = &view.data()[(from - offset) as usize * size..(to - offset) as usize * size];
                let piece = Tensor::f_from_data_size(bytes, &[(to - from) as i64], layout.kind());
                let target = row.f_narrow(
                    0,
                    segment.start + (from - segment.global_offset) as i64,
                    (to - from) as i64,
                );
                target.and_then(|mut target| target.f_copy_(&piece?)).map_err(io::Error::other)?;
                filled += (to - from) as i64;
            }
        }
    }
    Ok(filled)
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}
