//! The vector that tracking starts from, beside the state: `hessian_probe/top.rank-R-of-W.safetensors`.

use crate::checkpoint::vectors::{restore, serialise};
use crate::checkpoint::{DIRECTORY, SidecarError, atomic};
use crate::sharded::layout::Layout;
use crate::sharded::vector::ShardedVector;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tch::Tensor;

fn path(checkpoint: &Path, rank: usize, world_size: usize) -> PathBuf {
    checkpoint.join(DIRECTORY).join(format!("top.rank-{rank}-of-{world_size}.safetensors"))
}

/// Writes this rank's part. The state, which says that there is one, comes after all ranks' parts.
pub(crate) fn save(
    checkpoint: &Path,
    layout: &Layout,
    vector: &Tensor,
    rank: usize,
    world_size: usize,
) -> Result<(), SidecarError> {
    let path = path(checkpoint, rank, world_size);
    let written = || {
        fs::create_dir_all(checkpoint.join(DIRECTORY))?;
        atomic::write(&path, &serialise(layout, vector)?)
    };
    written().map_err(|source| SidecarError::Io { path, source })
}

/// This rank's part of what `world_size` ranks wrote.
pub(crate) fn load(checkpoint: &Path, layout: &Layout, world_size: usize) -> Result<Tensor, SidecarError> {
    let mut filled = 0;
    let damaged = |path: PathBuf, source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => SidecarError::Damaged { path, reason: source.to_string() },
        _ => SidecarError::Io { path, source },
    };
    let vector = ShardedVector::zeros(layout)
        .map_err(|error| damaged(path(checkpoint, 0, world_size), io::Error::other(error)))?
        .into_tensor();
    for rank in 0..world_size {
        let path = path(checkpoint, rank, world_size);
        let read = fs::read(&path).and_then(|contents| restore(layout, &vector, &contents));
        filled += read.map_err(|source| damaged(path, source))?;
    }
    if filled != layout.local_len() {
        let reason = format!("{filled} of this rank's {} entries are there", layout.local_len());
        return Err(SidecarError::Damaged { path: path(checkpoint, 0, world_size), reason });
    }
    Ok(vector)
}
