//! Which parameter belongs to which block.

pub use super::naming::kind;

use super::config::{BlocksConfig, By};
use super::naming::matches;
use crate::error::{Error, Result};
use crate::hash::{as_f64, fnv1a};
use crate::host::{Host, Shard};
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;

const DIVIDING: &str = "dividing the parameters into blocks";
/// What belongs to no other block.
const OTHER: &str = "other";

/// A partition of the parameters into blocks. The block of a parameter is a function of its name (by layer: of
/// the block that the host names), the same on every rank, also on one that owns nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    blocks: Vec<Block>,
    /// For each shard the number of its block; `None` where there is nothing of it on any rank.
    of_shard: Vec<Option<usize>>,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its name: that of a layer, a tensor, a kind or a list of patterns.
    pub name: String,
    /// n_b, its parameters over all ranks, each counted once.
    pub parameters: u64,
}

impl Partition {
    /// Divides the host's parameters, in the order in which blocks first appear. Collective.
    ///
    /// # Errors
    /// When a pattern matches nothing, or ranks disagree.
    pub fn new(host: &dyn Host, layout: &Layout, config: &BlocksConfig) -> Result<Self> {
        let mut ranks = Ranks::new(host);
        let shards = host.shards();
        // Every rank has the same names, or it is told so below.
        let assigned = ranks.agree(host, DIVIDING, assign(config, &shards))?;
        let (names, numbers) = &assigned;
        let described = format!("{names:?}{numbers:?}");
        if ranks.differs(host, DIVIDING, as_f64(fnv1a(described.bytes())))? {
            return Err(Error::Layout {
                rank: ranks.rank(),
                parameter: "*".into(),
                reason: "ranks name different blocks for the same parameters".into(),
            });
        }
        let mut counted = vec![0.0; names.len()];
        for segment in layout.segments().iter().filter(|segment| segment.start < layout.counted_len()) {
            counted[numbers[segment.shard]] += segment.len as f64;
        }
        let counted = ranks.sum(host, DIVIDING, names.len(), Ok(counted))?;
        let (names, numbers) = assigned;
        // A block of empty tensors is none.
        let mut blocks = Vec::new();
        let kept: Vec<Option<usize>> = names
            .into_iter()
            .zip(counted)
            .map(|(name, parameters)| {
                let kept = (parameters > 0.0).then_some(blocks.len());
                if kept.is_some() {
                    blocks.push(Block { name, parameters: parameters as u64 });
                }
                kept
            })
            .collect();
        Ok(Self { blocks, of_shard: numbers.into_iter().map(|number| kept[number]).collect() })
    }

    /// The blocks, in the order in which they first appear.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The block of shard number `shard` of [`Host::shards`].
    #[must_use]
    pub fn block_of(&self, shard: usize) -> Option<usize> {
        self.of_shard.get(shard).copied().flatten()
    }

    /// For each block the layout of vectors over its parameters alone.
    pub(super) fn layouts(&self, layout: &Layout) -> Vec<Layout> {
        let of =
            |b: usize| layout.restricted(self.blocks[b].parameters, |shard| self.block_of(shard) == Some(b));
        (0..self.blocks.len()).map(of).collect()
    }
}

/// The blocks' names, and for each shard the number of its block.
fn assign(config: &BlocksConfig, shards: &[Shard]) -> Result<(Vec<String>, Vec<usize>)> {
    check(config, shards)?;
    let mut names: Vec<String> = Vec::new();
    let mut numbers = Vec::with_capacity(shards.len());
    for shard in shards {
        let name = match config.by {
            By::Layer if shard.block.is_empty() => OTHER,
            By::Layer => &shard.block,
            By::Tensor => &shard.name,
            By::Kind => kind(&shard.name),
            By::None => {
                by_patterns(config, &shard.name).map_or(OTHER, |(block, _)| &config.patterns[block].name)
            }
        };
        numbers.push(names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        }));
    }
    Ok((names, numbers))
}

/// The first pattern that matches: the block's number in the configuration, and the pattern's in the block.
fn by_patterns(config: &BlocksConfig, name: &str) -> Option<(usize, usize)> {
    let of_block = |(block, named): (usize, &super::config::NamedPatterns)| {
        named.patterns.iter().position(|pattern| matches(pattern, name)).map(|pattern| (block, pattern))
    };
    config.patterns.iter().enumerate().find_map(of_block)
}

/// Every pattern decides about a parameter.
fn check(config: &BlocksConfig, shards: &[Shard]) -> Result<()> {
    let deciding: Vec<_> = shards.iter().filter_map(|shard| by_patterns(config, &shard.name)).collect();
    for (block, named) in config.patterns.iter().enumerate() {
        for (index, pattern) in named.patterns.iter().enumerate() {
            if deciding.contains(&(block, index)) {
                continue;
            }
            let reason = if shards.iter().any(|shard| matches(pattern, &shard.name)) {
                "matches only parameters that earlier patterns have taken; put it before them"
            } else {
                "matches no parameter; it must match a whole name, with `*` for any characters"
            };
            return Err(Error::config(
                "blocks.patterns",
                format!("`{pattern}` of the block `{}` {reason}", named.name),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::config::NamedPatterns;
    use crate::group::{HostError, ProcessGroup, SingleProcess};
    use crate::host::Gradient;
    use proptest::prelude::*;
    use tch::{Device, Kind, Tensor};

    struct Lender(Vec<(String, i64)>);

    impl Host for Lender {
        fn shards(&self) -> Vec<Shard> {
            let zeros = |&(ref name, len): &(String, i64)| {
                (name.clone(), Tensor::zeros([len], (Kind::Float, Device::Cpu)))
            };
            Shard::whole(self.0.iter().map(zeros), false)
        }

        fn gradient(&mut self) -> Result<Gradient, HostError> {
            Err("not called".into())
        }

        fn group(&self) -> &dyn ProcessGroup {
            &SingleProcess
        }
    }

    fn partition(parameters: &[(&str, i64)], config: &BlocksConfig) -> Result<Partition> {
        let host = Lender(parameters.iter().map(|&(name, len)| (name.to_owned(), len)).collect());
        Partition::new(&host, &Layout::new(&host, None)?, config)
    }

    fn shown(partition: &Partition) -> Vec<(&str, u64)> {
        partition.blocks().iter().map(|block| (block.name.as_str(), block.parameters)).collect()
    }

    const MODEL: [(&str, i64); 6] = [
        ("model.embed_tokens.weight", 70),
        ("model.layers.0.self_attn.q_proj.weight", 16),
        ("model.layers.0.input_layernorm.weight", 4),
        ("model.layers.1.self_attn.q_proj.weight", 16),
        ("model.layers.1.mlp.up_proj.weight", 32),
        ("model.norm.weight", 4),
    ];

    fn patterns(list: &[(&str, &[&str])]) -> BlocksConfig {
        let named = |&(name, patterns): &(&str, &[&str])| NamedPatterns {
            name: name.to_owned(),
            patterns: patterns.iter().map(ToString::to_string).collect(),
        };
        BlocksConfig { patterns: list.iter().map(named).collect(), ..BlocksConfig::default() }
    }

    #[test]
    fn blocks_appear_in_the_order_of_their_first_parameters() {
        let by = |by| BlocksConfig { by, ..BlocksConfig::default() };
        let layers = partition(&MODEL, &by(By::Layer)).unwrap();
        let expected =
            [("model.embed_tokens", 70), ("model.layers.0", 20), ("model.layers.1", 48), ("model.norm", 4)];
        assert_eq!(shown(&layers), expected);
        let kinds = partition(&MODEL, &by(By::Kind)).unwrap();
        assert_eq!(shown(&kinds), [("embedding", 70), ("attention", 32), ("norms", 8), ("mlp", 32)]);
        assert_eq!(partition(&MODEL, &by(By::Tensor)).unwrap().blocks().len(), 6);
    }

    #[test]
    fn the_first_pattern_decides_and_what_none_matches_is_other() {
        let config = patterns(&[("queries", &["*.q_proj.*"]), ("layers", &["model.layers.*"])]);
        let found = partition(&MODEL, &config).unwrap();
        assert_eq!(shown(&found), [("other", 74), ("queries", 32), ("layers", 36)]);
    }

    #[test]
    fn a_pattern_that_decides_nothing_is_an_error_that_names_it() {
        for (config, named, reason) in [
            (patterns(&[("keys", &["*.q_proj.*", "*.k_proj.*"])]), "`*.k_proj.*`", "matches no parameter"),
            (patterns(&[("all", &["*"]), ("norms", &["*norm*"])]), "`*norm*`", "earlier patterns"),
        ] {
            let error = partition(&MODEL, &config).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains(reason), "{error}");
        }
    }

    proptest! {
        /// Sizes add up, every index is in one block's layout, and empty tensors are in none.
        #[test]
        fn the_blocks_are_a_partition(
            sizes in prop::collection::vec((0_i64..40, 0_usize..4, 0_usize..3), 1..20), by in 0_usize..3,
        ) {
            let names: Vec<String> = sizes
                .iter()
                .enumerate()
                .map(|(i, (_, layer, word))| format!("layers.{layer}.{}.{i}", ["attn", "mlp", "x"][*word]))
                .collect();
            let mut parameters: Vec<(&str, i64)> =
                names.iter().map(String::as_str).zip(sizes.iter().map(|size| size.0)).collect();
            parameters.push(("last", 1));
            let host = Lender(parameters.iter().map(|&(name, len)| (name.to_owned(), len)).collect());
            let layout = Layout::new(&host, None).unwrap();
            let by = [By::Layer, By::Tensor, By::Kind][by];
            let found = Partition::new(&host, &layout, &BlocksConfig { by, ..BlocksConfig::default() }).unwrap();
            let mut indices: Vec<u64> = Vec::new();
            for (block, part) in found.blocks().iter().zip(found.layouts(&layout)) {
                prop_assert_eq!(block.parameters, part.parameters());
                prop_assert_eq!(part.local_len() as u64, block.parameters);
                let mut start = 0;
                for segment in part.segments() {
                    prop_assert_eq!(segment.start, start);
                    start += segment.len;
                    indices.extend(segment.global_offset..segment.global_offset + segment.len as u64);
                    prop_assert_eq!(found.block_of(segment.shard).map(|b| &found.blocks()[b]), Some(block));
                }
            }
            indices.sort_unstable();
            prop_assert_eq!(indices, (0..layout.parameters()).collect::<Vec<_>>());
        }
    }
}

#[cfg(test)]
impl Partition {
    /// Blocks of these sizes, without parameters.
    pub(super) fn of_sizes(sizes: &[u64]) -> Self {
        let block = |(index, &parameters): (usize, &u64)| Block { name: index.to_string(), parameters };
        Self { blocks: sizes.iter().enumerate().map(block).collect(), of_shard: Vec::new() }
    }
}
