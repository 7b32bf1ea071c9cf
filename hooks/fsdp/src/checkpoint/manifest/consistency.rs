//! Whether what a manifest says fits together.

use super::super::checksum::chunks;
use super::{FileEntry, Manifest, ParameterEntry, State};
use std::path::{Component, Path};

/// The next step must be one that can be counted, and ranks tell each other in f64.
const MOST_COUNTED: u64 = 1 << 53;

impl Manifest {
    /// Whether offsets lie inside of files, and slices cover every parameter and moment exactly once.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.ranks.len() != self.world_size || self.world_size == 0 {
            return Err(format!("{} ranks of a world size of {}", self.ranks.len(), self.world_size));
        }
        for (what, count) in
            [("step", self.step), ("tokens", self.tokens), ("optimizer_steps", self.optimizer_steps)]
        {
            if count > MOST_COUNTED {
                return Err(format!("`{what}` is {count}, more than a training takes"));
            }
        }
        for file in self.all_files() {
            file.check()?;
        }
        let mut covered: Vec<(State, usize, u64, u64)> = Vec::new();
        for rank in &self.ranks {
            let inside = |offset: u64, bytes: Option<u64>| {
                bytes.and_then(|bytes| offset.checked_add(bytes)).is_some_and(|end| end <= rank.file.bytes)
            };
            if !inside(rank.random_state_offset, Some(rank.random_state_bytes)) {
                return Err(format!("the random state in {} lies outside of it", rank.file.path));
            }
            for slice in &rank.slices {
                let parameter = self.parameters.get(slice.parameter);
                let size = parameter.map(|parameter| parameter.dtype_of(slice.state).bytes());
                let Some(size) = size else {
                    return Err(format!("there is no parameter number {}", slice.parameter));
                };
                let aligned = slice.offset.is_multiple_of(size);
                if !aligned || !inside(slice.offset, slice.len.checked_mul(size)) {
                    return Err(format!(
                        "a slice at byte {} of {} is not in it",
                        slice.offset, rank.file.path
                    ));
                }
                covered.push((slice.state, slice.parameter, slice.start, slice.len));
            }
        }
        covered.sort_unstable();
        let mut slices = covered.into_iter().peekable();
        for state in State::ALL {
            for (index, parameter) in self.parameters.iter().enumerate() {
                let mut end = 0;
                while let Some((_, _, start, len)) =
                    slices.next_if(|slice| (slice.0, slice.1) == (state, index))
                {
                    if start != end {
                        return Err(format!(
                            "slices of `{}` leave a gap or overlap at {end}",
                            parameter.name
                        ));
                    }
                    end = start.saturating_add(len);
                }
                if Some(end) != parameter.numel() {
                    return Err(format!("slices of `{}` end at {end}", parameter.name));
                }
            }
        }
        Ok(())
    }
}

impl ParameterEntry {
    fn numel(&self) -> Option<u64> {
        self.shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(u64::try_from(size).ok()?))
    }
}

impl FileEntry {
    fn check(&self) -> Result<(), String> {
        // Never out of the checkpoint's directory.
        let plain = Path::new(&self.path).components().all(|part| matches!(part, Component::Normal(_)));
        if self.path.is_empty() || !plain {
            return Err(format!("`{}` is not a path inside of a checkpoint", self.path));
        }
        // Elements of 8 bytes do not straddle chunks; a chunk is read into memory.
        let usable = self.chunk_bytes.is_multiple_of(8) && (8..=1 << 30).contains(&self.chunk_bytes);
        if !usable || chunks(self.bytes, self.chunk_bytes) != self.crc32c.len() as u64 {
            return Err(format!("the checksums of {} do not fit its length", self.path));
        }
        Ok(())
    }
}
