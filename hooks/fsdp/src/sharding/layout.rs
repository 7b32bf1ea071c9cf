//! Where a parameter lies in its block's flat buffer, and which part of it a rank owns.

use crate::model::{BlockSpec, ParameterSpec};
use std::ops::Range;
use tch::{TchError, Tensor};

/// The flat buffer of one block: its parameters one behind the other, then zeros up to a multiple of
/// the number of ranks.
#[derive(Clone, Debug)]
pub struct BlockLayout {
    /// The block's name.
    pub name: String,
    /// The block's own parameters in the order of the buffer.
    pub parameters: Vec<ParameterLayout>,
    /// The number of parameters' elements, padding excluded.
    pub numel: usize,
    /// The number of elements that a rank owns, padding included: `⌈numel / world_size⌉`.
    pub shard_len: usize,
    /// The number of elements of all blocks before this one, padding excluded.
    pub global_offset: u64,
    world_size: usize,
}

/// One parameter's place in its block.
#[derive(Clone, Debug)]
pub struct ParameterLayout {
    /// Name, shape and initial distribution.
    pub spec: ParameterSpec,
    /// The first element's index in the block's flat buffer.
    pub offset: usize,
    /// The number of elements.
    pub numel: usize,
}

/// What a rank owns of one parameter; `len` may be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The first element's index in the rank's shard of the block.
    pub shard_start: usize,
    /// The first element's index in the flattened parameter.
    pub parameter_start: usize,
    /// The number of elements.
    pub len: usize,
    /// The first element's index among all parameters of the model, padding excluded.
    pub global_offset: u64,
}

impl BlockLayout {
    /// The layouts of `blocks` over `world_size` ranks.
    #[must_use]
    pub fn of_blocks(blocks: &[BlockSpec], world_size: usize) -> Vec<Self> {
        let mut global_offset = 0;
        let mut layouts = Vec::with_capacity(blocks.len());
        for block in blocks {
            let mut numel = 0;
            let mut parameters = Vec::with_capacity(block.parameters.len());
            for spec in &block.parameters {
                let layout = ParameterLayout { spec: spec.clone(), offset: numel, numel: spec.numel() };
                numel += layout.numel;
                parameters.push(layout);
            }
            layouts.push(Self {
                name: block.name.clone(),
                parameters,
                numel,
                shard_len: numel.div_ceil(world_size),
                global_offset,
                world_size,
            });
            global_offset += numel as u64;
        }
        layouts
    }

    /// The length of the gathered buffer: `shard_len · world_size`.
    #[must_use]
    pub fn padded(&self) -> usize {
        self.shard_len * self.world_size
    }

    /// What `rank` owns of parameter number `parameter` of the block. An empty slice lies at an end of
    /// the rank's range, so that slices stay in order.
    #[must_use]
    pub fn slice(&self, rank: usize, parameter: &ParameterLayout) -> Slice {
        let own = self.own_range(rank);
        let start = parameter.offset.clamp(own.start, own.end);
        let end = (parameter.offset + parameter.numel).clamp(own.start, own.end);
        Slice {
            shard_start: start - own.start,
            parameter_start: start.clamp(parameter.offset, parameter.offset + parameter.numel)
                - parameter.offset,
            len: end - start,
            global_offset: self.global_offset + start as u64,
        }
    }

    /// The range of the flat buffer that `rank` owns, padding excluded.
    fn own_range(&self, rank: usize) -> Range<usize> {
        (rank * self.shard_len).min(self.numel)..((rank + 1) * self.shard_len).min(self.numel)
    }

    /// `shard` (a rank's part of a flat buffer of this block) as one tensor per parameter, aliases.
    pub(crate) fn split_shard(&self, rank: usize, shard: &Tensor) -> Result<Vec<Tensor>, TchError> {
        self.parameters
            .iter()
            .map(|parameter| {
                let slice = self.slice(rank, parameter);
                shard.f_narrow(0, slice.shard_start as i64, slice.len as i64)
            })
            .collect()
    }

    /// `flat` (the whole buffer of this block) as one tensor per parameter in its shape, aliases.
    pub(crate) fn split_whole(&self, flat: &Tensor) -> Result<Vec<Tensor>, TchError> {
        self.parameters
            .iter()
            .map(|parameter| {
                flat.f_narrow(0, parameter.offset as i64, parameter.numel as i64)?
                    .f_view(&parameter.spec.shape[..])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layouts(sizes: &[&[i64]], world_size: usize) -> Vec<BlockLayout> {
        let blocks: Vec<BlockSpec> = sizes.iter().map(|sizes| BlockSpec::of_sizes(sizes)).collect();
        BlockLayout::of_blocks(&blocks, world_size)
    }

    #[test]
    fn slices_of_all_ranks_cover_every_global_index_once() {
        let sizes: [&[i64]; 3] = [&[5, 1, 9], &[2], &[1, 1, 1, 4]];
        for world_size in 1..=9 {
            let layouts = layouts(&sizes, world_size);
            let mut owners = vec![0; 24];
            for layout in &layouts {
                for rank in 0..world_size {
                    let mut previous = 0;
                    for parameter in &layout.parameters {
                        let slice = layout.slice(rank, parameter);
                        assert!(slice.shard_start + slice.len <= layout.shard_len);
                        assert!(slice.parameter_start + slice.len <= parameter.numel);
                        assert!(slice.global_offset >= previous, "slices are in order");
                        previous = slice.global_offset;
                        for index in 0..slice.len {
                            let global = slice.global_offset as usize + index;
                            owners[global] += 1;
                            let expected =
                                layout.global_offset as usize + parameter.offset + slice.parameter_start;
                            assert_eq!(global, expected + index);
                        }
                    }
                }
                assert!(layout.padded() >= layout.numel && layout.padded() < layout.numel + world_size);
            }
            assert_eq!(owners, [1; 24], "{world_size} ranks");
        }
    }
}
