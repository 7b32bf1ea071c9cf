//! How much memory probes take on top of their gradients.
//!
//! Linux forgets the peak of resident memory on demand: the peak of a gradient and that of a probe are measured one after the
//! other in one process, whose allocator returns at once what is freed. Their difference is what the probe holds while
//! its gradients are at their own peak.

use super::case::{Case, Probe};
use crate::Result;
use crate::memory::peak_of;
use hessian_probe::cost::{Facts, Memory};
use hessian_probe::sharded::Layout;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub struct Memories {
    pub entries: u64,
    pub probes: Vec<Taken>,
}

/// Bytes of a rank.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Taken {
    pub probe: Probe,
    /// Peaks of resident memory; `None` where the system does not tell.
    pub gradient_peak: Option<u64>,
    pub probe_peak: Option<u64>,
    /// The law: vectors, and temporaries at most.
    pub vectors: u64,
    pub pieces: u64,
    /// What the probe itself told.
    pub told: u64,
}

pub fn measure(case: &Case) -> Result<Memories> {
    let mut host = case.host()?;
    let probes = case.probes();
    // Code that is loaded on first use, and threads.
    host.pass()?;
    let smallest = probes.iter().min_by_key(|probe| probe.steps * probe.vectors).ok_or("no probes")?;
    smallest.new_probe()?.probe(0, &mut host)?;
    let layout = Layout::new(&host, None)?;
    let mut taken = Vec::new();
    // More probe vectors take no more memory.
    for probe in probes.into_iter().filter(|probe| probe.vectors == 1) {
        let gradient_peak = peak_of(|| {
            host.pass()?;
            Ok(())
        })?;
        let mut told = 0;
        let probe_peak = peak_of(|| {
            let cost = probe.new_probe()?.probe(0, &mut host)?.cost.clone();
            told = cost.basis_bytes + cost.vector_bytes;
            Ok(())
        })?;
        let config = probe.config();
        let memory = Memory::new(&Facts::of(&host, &layout, &config), &config, 0)?;
        taken.push(Taken {
            probe,
            gradient_peak,
            probe_peak,
            vectors: memory.total(),
            pieces: memory.pieces,
            told,
        });
    }
    Ok(Memories { entries: layout.local_len() as u64, probes: taken })
}
