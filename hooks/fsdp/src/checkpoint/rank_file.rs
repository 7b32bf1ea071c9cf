//! What one rank's file holds, and where: a function of the layout alone, so that rank 0 knows it of all.

use super::header::Header;
use super::manifest::{SliceEntry, State};
use crate::config::Dtype;
use crate::error::{Error, Result};
use crate::sharding::BlockLayout;
use std::cmp::Reverse;
use std::path::Path;

/// The place of everything in a rank's file.
#[derive(Debug)]
pub(super) struct RankFile {
    /// The file's first bytes.
    pub header: Vec<u8>,
    /// What follows, without gaps.
    pub slices: Vec<SliceEntry>,
    /// What follows the slices.
    pub random_state_offset: u64,
    /// The length of the file.
    pub bytes: u64,
}

/// The name of a rank's file.
pub(super) fn file_name(rank: usize, world_size: usize) -> String {
    format!("rank-{rank:05}-of-{world_size:05}.safetensors")
}

impl RankFile {
    /// The file of `rank`, whose generator has a state of `random_state_bytes`; `dtype` is that of each vector.
    /// Empty slices are left out.
    pub(super) fn plan(
        layouts: &[BlockLayout],
        rank: usize,
        dtype: impl Fn(State) -> Dtype,
        random_state_bytes: usize,
        path: &Path,
    ) -> Result<Self> {
        let mut header = Header::new();
        let mut slices = Vec::new();
        // Wider elements first: without gaps, each then starts at a multiple of its size.
        let mut states = State::ALL;
        states.sort_by_key(|&state| Reverse(dtype(state).bytes()));
        for state in states {
            let parameters = layouts.iter().flat_map(|layout| {
                layout.parameters.iter().map(move |parameter| (parameter, layout.slice(rank, parameter)))
            });
            for (index, (parameter, slice)) in parameters.enumerate().filter(|(_, (_, slice))| slice.len > 0)
            {
                let key = state.key(&parameter.spec.name);
                let offset = header.push(key, dtype(state).safetensors(), vec![slice.len]);
                slices.push(SliceEntry {
                    state,
                    parameter: index,
                    start: slice.parameter_start as u64,
                    len: slice.len as u64,
                    offset: offset as u64,
                });
            }
        }
        let random_state =
            header.push("random_state".into(), safetensors::Dtype::U8, vec![random_state_bytes]) as u64;
        let data_bytes = header.data_bytes() as u64;
        let header = header.encode().map_err(|error| Error::Io {
            rank,
            action: "write the header of",
            path: path.into(),
            source: std::io::Error::other(error.to_string()),
        })?;
        let data = header.len() as u64;
        for slice in &mut slices {
            slice.offset += data;
        }
        Ok(Self { header, slices, random_state_offset: data + random_state, bytes: data + data_bytes })
    }
}
