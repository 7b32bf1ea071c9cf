//! The state of a probe that is under way, so that a long one survives the end of its process.
//!
//! # Format
//! Below the directory of the configuration, one directory a training step, `step-N`:
//! - `vector-J.rank-R-of-W.safetensors`: what rank R of W counts of Lanczos vector J. A tensor a segment,
//!   named by the global index of its first entry; its metadata has the CRC-32C of the data.
//! - `state`: everything else, as a [`SavedProbe`]: JSON behind one line
//!   `hessian-probe-krylov VERSION LENGTH CHECKSUM`.
//!   It is written after the vectors that it refers to, so that it is never ahead of them.
//!
//! Vectors are found by global index: another number of ranks can go on from them. Whoever finds nothing
//! that fits starts the probe afresh.

use crate::checkpoint::atomic;
use crate::checkpoint::envelope::{Fault, unwrap, wrap};
use crate::krylov::basis::Basis;
use crate::krylov::lanczos::LanczosState;
use crate::operator::Calibration;
use crate::operator::finite_difference::ProductRecord;
use crate::sharded::layout::{Layout, Segment};
use crate::spectrum::ProbeRecord;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

const MAGIC: &str = "hessian-probe-krylov";
const VERSION: u32 = 2;
const CHECKSUM: &str = "crc32c";

/// What makes two probes the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(crate) step: u64,
    /// n.
    pub(crate) parameters: u64,
    /// A hash of the bits of θ and where they stand.
    pub(crate) theta: u64,
    /// A hash of the configuration of the quadrature and the products.
    pub(crate) configuration: u64,
}

/// Everything of a probe that is under way but its vectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedProbe {
    pub(crate) fingerprint: Fingerprint,
    /// Loss and ‖∇L‖ at θ: what says that the data are the same.
    pub(crate) loss: f64,
    pub(crate) gradient_norm: f64,
    pub(crate) world_size: usize,
    pub(crate) calibration: Calibration,
    /// Runs that are complete.
    pub(crate) done: Vec<ProbeRecord>,
    pub(crate) products: Vec<ProductRecord>,
    pub(crate) redone: u64,
    pub(crate) calibration_gradients: u64,
    pub(crate) gradients: u64,
    /// The run under way, and which of its vectors are on the disk.
    pub(crate) lanczos: LanczosState,
    pub(crate) first_vector: usize,
    pub(crate) vectors: usize,
}

/// The directory of one probe.
#[derive(Debug)]
pub(crate) struct KrylovStore {
    directory: PathBuf,
    rank: usize,
    world_size: usize,
    /// Vectors of the present run that are on the disk.
    written: usize,
}

impl KrylovStore {
    pub(crate) fn new(directory: &Path, step: u64, rank: usize, world_size: usize) -> Self {
        Self { directory: directory.join(format!("step-{step}")), rank, world_size, written: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    fn vector_path(&self, index: usize, rank: usize, world_size: usize) -> PathBuf {
        self.directory.join(format!("vector-{index}.rank-{rank}-of-{world_size}.safetensors"))
    }

    fn state_path(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Writes this rank's part of the vectors that are not on the disk yet.
    pub(crate) fn write_vectors(&mut self, layout: &Layout, basis: &Basis) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        for index in self.written.max(basis.oldest())..basis.len() {
            let vector = basis.vector(index).map_err(io::Error::other)?;
            let path = self.vector_path(index, self.rank, self.world_size);
            atomic::write(&path, &serialise(layout, &vector)?)?;
        }
        self.written = basis.len();
        Ok(())
    }

    /// Writes what refers to them: rank 0, once all ranks have written theirs.
    pub(crate) fn write_state(&self, saved: &SavedProbe) -> io::Result<()> {
        let body = serde_json::to_vec(saved)?;
        atomic::write(&self.state_path(), &wrap(MAGIC, VERSION, &body))
    }

    /// A run ended: its vectors are of no more use, and those of the next have the same numbers.
    pub(crate) fn next_run(&mut self) {
        self.written = 0;
    }

    /// What was saved; `None` where nothing was.
    pub(crate) fn read_state(&self) -> io::Result<Option<SavedProbe>> {
        match fs::read(self.state_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(contents) => parse(&contents).map(Some),
        }
    }

    /// Fills the basis with the saved vectors.
    pub(crate) fn read_vectors(
        &mut self,
        layout: &Layout,
        basis: &mut Basis,
        saved: &SavedProbe,
    ) -> io::Result<()> {
        basis.skip_to(saved.first_vector);
        for index in saved.first_vector..saved.vectors {
            let row = basis.next_row().map_err(io::Error::other)?;
            let mut filled = 0;
            for rank in 0..saved.world_size {
                let contents = fs::read(self.vector_path(index, rank, saved.world_size))?;
                filled += restore(layout, &row, &contents)?;
            }
            if filled != layout.local_len() {
                let reason =
                    format!("vector {index} has {filled} of this rank's {} entries", layout.local_len());
                return Err(invalid(reason));
            }
            basis.commit().map_err(io::Error::other)?;
        }
        // Other ranks' files do not count where their number has changed.
        self.written = if saved.world_size == self.world_size { saved.vectors } else { 0 };
        Ok(())
    }

    /// The probe is complete.
    pub(crate) fn remove(&self) {
        if self.rank == 0
            && let Err(error) = fs::remove_dir_all(&self.directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!(target: "hessian_probe", "{} cannot be removed: {error}", self.directory.display());
        }
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn parse(contents: &[u8]) -> io::Result<SavedProbe> {
    let body = unwrap(MAGIC, VERSION, contents).map_err(|fault| match fault {
        Fault::Version(found) => invalid(format!("it is of version {found}, not {VERSION}")),
        Fault::Damaged(reason) => invalid(reason),
    })?;
    serde_json::from_slice(body).map_err(io::Error::from)
}

/// The counted segments of a local vector.
fn counted(layout: &Layout) -> impl Iterator<Item = &Segment> {
    layout.segments().iter().filter(|segment| segment.start < layout.counted_len())
}

fn serialise(layout: &Layout, vector: &Tensor) -> io::Result<Vec<u8>> {
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
fn restore(layout: &Layout, row: &Tensor, contents: &[u8]) -> io::Result<i64> {
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
            let to = (segment.global_offset + segment.len as u64).min(offset + len);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_state_reads_back_and_is_refused_when_cut_off_at_any_byte() {
        let directory = tempfile::tempdir().unwrap();
        let store = KrylovStore::new(directory.path(), 4, 0, 1);
        assert!(store.read_state().unwrap().is_none());
        fs::create_dir_all(store.path()).unwrap();
        let saved = SavedProbe { loss: 0.1 + 0.2, vectors: 3, ..SavedProbe::default() };
        store.write_state(&saved).unwrap();
        assert_eq!(store.read_state().unwrap(), Some(saved));
        let whole = fs::read(store.state_path()).unwrap();
        for length in 0..whole.len() {
            fs::write(store.state_path(), &whole[..length]).unwrap();
            assert!(store.read_state().is_err(), "at {length}");
        }
        store.remove();
        assert!(!store.path().exists());
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&bytes).is_err());
        }
    }
}
