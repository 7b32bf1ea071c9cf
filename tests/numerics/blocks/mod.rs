//! Block-diagonal fidelity against dense Hessians and their blocks.
//!
//! - [`exact`]: the comparison along given vectors
//! - [`spectra`]: of single blocks
//! - [`estimates`]: errors of estimates, over many seeds

mod estimates;
mod exact;
mod spectra;

use crate::closure_host::ClosureHost;
use crate::models::transformer;
use hessian_probe::blocks::{BlockDiagonal, BlocksConfig, Partition, block_diagonal};
use hessian_probe::config::Distribution;
use hessian_probe::sharded::Layout;
use hessian_probe::sharded::random::RandomProbe;
use hessian_probe::{Host, ProbeConfig};
use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

/// A dense H and its blocks as ranges of indices.
struct Dense {
    h: Tensor,
    ranges: Vec<Vec<(i64, i64)>>,
    gradient: Tensor,
}

impl Dense {
    /// The blocks are what `partition` says.
    fn of(h: Tensor, host: &mut ClosureHost, partition: &Partition) -> Self {
        let gradient = host.gradient().unwrap();
        let gradient = Tensor::cat(&gradient.tensors.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0);
        Self { h, ranges: ranges(host, partition), gradient }
    }

    /// Ones on the entries of a block.
    fn mask(&self, block: usize) -> Tensor {
        let mask = Tensor::zeros([self.h.size()[0]], (Kind::Double, Device::Cpu));
        for &(start, len) in &self.ranges[block] {
            let _ = mask.narrow(0, start, len).fill_(1.0);
        }
        mask
    }

    /// H_bd, by deleting entries of H.
    fn block_diagonal(&self) -> Tensor {
        (0..self.ranges.len()).fold(self.h.zeros_like(), |sum, block| {
            let mask = self.mask(block);
            sum + &self.h * mask.outer(&mask)
        })
    }

    /// P_b H P_b on the block alone.
    fn block(&self, block: usize) -> Tensor {
        let indices: Vec<i64> =
            self.ranges[block].iter().flat_map(|&(start, len)| start..start + len).collect();
        let indices = Tensor::from_slice(&indices);
        self.h.index_select(0, &indices).index_select(1, &indices)
    }
}

fn ranges(host: &ClosureHost, partition: &Partition) -> Vec<Vec<(i64, i64)>> {
    let mut ranges = vec![Vec::new(); partition.blocks().len()];
    for (index, shard) in host.shards().iter().enumerate() {
        let range = (shard.global_offset as i64, shard.tensor.numel() as i64);
        ranges[partition.block_of(index).unwrap()].push(range);
    }
    ranges
}

/// The Hessian of `transformer(5)` by double backward, which several tests need.
fn transformer_hessian() -> Tensor {
    static ENTRIES: OnceLock<Vec<f64>> = OnceLock::new();
    let entries = ENTRIES.get_or_init(|| {
        let dense = ClosureHost::new(transformer(5), Kind::Double).dense_hessian();
        Vec::try_from(dense.reshape([-1])).unwrap()
    });
    let n = (entries.len() as f64).sqrt() as i64;
    Tensor::from_slice(entries).view([n, n])
}

fn rademacher(n: i64, seed: u64, index: u64) -> Tensor {
    let mut entries = vec![0.0; n as usize];
    RandomProbe::new(seed, index, Distribution::Rademacher).fill(0, &mut entries);
    Tensor::from_slice(&entries)
}

fn value(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found} for {expected}");
}

fn found(host: &mut ClosureHost, toml: &str) -> (BlockDiagonal, ProbeConfig) {
    let config = ProbeConfig::from_toml_str(toml).unwrap();
    (block_diagonal(host, &config).unwrap(), config)
}

fn partition(host: &ClosureHost, config: &BlocksConfig) -> Partition {
    Partition::new(host, &Layout::new(host, None).unwrap(), config).unwrap()
}

const CENTRAL: &str = "[hvp]\ndifference = \"central\"\nmax_relative_error = 1e-9\n";

/// `[blocks]` with a partition: the usual ones, and one by patterns, whose blocks are no contiguous ranges.
const PARTITIONS: [&str; 4] = ["by = \"layer\"", "by = \"tensor\"", "by = \"kind\"", PATTERNS];
const PATTERNS: &str = "patterns = [{ name = \"first of each\", patterns = [\"*1*\"] }, { name = \"second\", patterns = [\"*2*\"] }]";
