//! How much memory a probe takes on top of training.
//!
//! Two processes that train and compute the probe's gradient; one of them also probes. Their peaks of
//! resident memory differ by what the probe holds at its gradients' own peak, temporaries included. The
//! batch is small, so that the peak is not one of activations that would hide the probe's temporaries, and
//! malloc is told to return what is freed.

use crate::Result;
use crate::case::Case;
use hessian_probe::Host;
use serde::{Deserialize, Serialize};

/// Makes glibc map blocks of more than 64 KiB one by one, and unmap them when they are freed.
pub const MALLOC: [(&str, &str); 3] =
    [("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "65536"), ("MALLOC_ARENA_MAX", "1")];

#[derive(Debug, Serialize, Deserialize)]
pub struct Memory {
    /// The peak of resident memory in bytes; `None` where the system does not tell.
    pub peak: Option<u64>,
    /// The probe's own account.
    pub basis: u64,
    /// Of all other vectors.
    pub vectors: u64,
    /// Bytes of this rank's parameters.
    pub shard: u64,
}

pub fn measure(case: &Case, probe: bool) -> Result<Memory> {
    let mut trainer = case.trainer(case.group()?)?;
    for _ in 0..2 {
        trainer.step()?;
        trainer.gradient()?;
    }
    let shard = trainer.shards().iter().map(|shard| 4 * shard.tensor.numel() as u64).sum();
    let mut memory = Memory { peak: None, basis: 0, vectors: 0, shard };
    if probe {
        let (mut probe, _directory) = case.probe(|_| {})?;
        let cost = &probe.probe(0, &mut trainer)?.cost;
        (memory.basis, memory.vectors) = (cost.basis_bytes, cost.vector_bytes);
    }
    memory.peak = peak();
    Ok(memory)
}

/// VmHWM, which Linux tells in kB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
