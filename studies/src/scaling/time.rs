//! Where the time of probes goes.

use super::case::{Case, Probe};
use crate::Result;
use crate::lent::Lent;
use hessian_probe::cost::{Block, Course, Facts, Parts, Traffic};
use hessian_probe::sharded::Layout;
use hessian_probe::spectrum::Cost;
use hessian_probe::{HessianProbe, Snapshot};
use hessian_probe_fsdp::engine::{PassConfig, passes};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Gradients timed alone before each probe.
const ALONE: usize = 3;

/// What a model is, over so many ranks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sizes {
    pub parameters: u64,
    /// Those of which rank 0 holds values.
    pub entries: u64,
    /// Of the probe batch, all ranks together.
    pub tokens: u64,
    /// Bytes that a gradient gathers, and reduces.
    pub gathered: u64,
    pub reduced: u64,
    pub blocks: usize,
}

/// What one process measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Times {
    #[serde(flatten)]
    pub sizes: Sizes,
    pub probes: Vec<Measured>,
}

/// A way to probe, with what each round took.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    pub probe: Probe,
    pub rounds: Vec<Round>,
}

/// A probe, before it one that measures the noise if it is such a way, and gradients alone before each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    pub gradient_seconds: f64,
    pub calibrating: Option<Told>,
    pub plain: Told,
}

/// What a snapshot tells of its cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    pub seconds: f64,
    pub parts: Parts,
    pub gradients: u64,
    pub calibration_gradients: u64,
    /// Products, and those computed again; `None` where that cannot be told.
    pub products: u64,
    pub redone: u64,
    pub distances: Option<u64>,
}

impl Told {
    fn of(snapshot: &Snapshot, probe: &Probe) -> Self {
        let Cost { seconds, parts, gradients, calibration_gradients, .. } = snapshot.cost;
        let course = Course::of(snapshot, &probe.config());
        Self {
            seconds,
            parts,
            gradients,
            calibration_gradients,
            products: course.map_or(0, |course| course.products.count()),
            redone: course.map_or(0, |course| course.redone.count()),
            distances: course.and_then(|course| course.calibration),
        }
    }
}

pub fn measure(case: &Case, rounds: usize) -> Result<Times> {
    let mut host = case.host()?;
    let probes = case.probes();
    let facts = Facts::of(&host, &Layout::new(&host, None)?, &probes[0].config());
    let blocks: Vec<Block> = passes(host.model().blocks(), PassConfig::default());
    let traffic = Traffic::of(&blocks, facts.ranks, 1, [4, 4])?;
    // Buffers that are made on first use, and the noise.
    let mut ways = Vec::new();
    for &probe in &probes {
        let mut taken = probe.new_probe()?;
        taken.probe(0, &mut host)?;
        ways.push((taken, Measured { probe, rounds: Vec::new() }));
    }
    for number in 1..=rounds as u64 {
        for (taken, measured) in &mut ways {
            measured.rounds.push(round(&mut host, taken, &measured.probe, number)?);
        }
    }
    let sizes = Sizes {
        parameters: host.model().parameter_count(),
        entries: facts.entries,
        tokens: host.tokens(),
        gathered: traffic.gathered,
        reduced: traffic.reduced,
        blocks: blocks.len(),
    };
    Ok(Times { sizes, probes: ways.into_iter().map(|(_, measured)| measured).collect() })
}

fn round(host: &mut Lent, taken: &mut HessianProbe, probe: &Probe, number: u64) -> Result<Round> {
    let mut alone = Vec::new();
    let mut timed = |taken: &mut HessianProbe, step| {
        host.barrier()?;
        for _ in 0..ALONE {
            let started = Instant::now();
            host.pass()?;
            alone.push(started.elapsed().as_secs_f64());
        }
        Ok::<_, Box<dyn std::error::Error>>(Told::of(taken.probe(step, host)?, probe))
    };
    // A new one has the noise to measure.
    let calibrating = if probe.calibrates { Some(timed(&mut probe.new_probe()?, 0)?) } else { None };
    let plain = timed(taken, number)?;
    Ok(Round { gradient_seconds: super::fit::median(&alone), calibrating, plain })
}
