//! The law of cost on this machine, and how far it is from what was measured.

use super::exponents::{PowerLaw, power_laws};
use super::fit::Fitted;
use super::points::Point;
use super::record::{Measured, Study};
use crate::Result;
use hessian_probe::cost::{Machine, Parts};
use serde::Serialize;

/// Everything that follows from the record.
#[derive(Debug, Serialize)]
pub struct Law {
    /// What `hessian-probe plan --machine` reads.
    pub machine: Machine,
    pub fitted: Fitted,
    pub power_laws: Vec<PowerLaw>,
    pub points: Vec<Compared>,
    pub memory: Vec<ComparedMemory>,
}

/// A point with what was foretold of it.
#[derive(Debug, Serialize)]
pub struct Compared {
    pub point: Point,
    pub foretold: Parts,
    /// Foretold over measured, less 1.
    pub residual: f64,
}

/// The same of memory, in bytes beyond those of a gradient. Nothing is fitted to it.
#[derive(Debug, Serialize)]
pub struct ComparedMemory {
    pub size: String,
    pub ranks: u64,
    pub probe: String,
    /// `None` where the system does not tell.
    pub measured: Option<f64>,
    pub foretold: u64,
    /// What the probe told of itself.
    pub told: u64,
    pub residual: Option<f64>,
}

impl Law {
    /// Fits the law to the points that are not held out.
    ///
    /// # Errors
    /// Where too little was measured.
    pub fn of(study: &Study) -> Result<Self> {
        let points = study.models.iter().map(|model| Point::of(model, study.threads));
        let points: Vec<Point> = points.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let training: Vec<&Point> = points.iter().filter(|point| !point.probe.held_out).collect();
        let fitted = Fitted::to(&training)?;
        let power_laws = power_laws(&points);
        let compared = points.into_iter().map(|point| {
            let foretold = point.foretold(&fitted)?;
            let residual = foretold.total() / point.seconds - 1.0;
            Ok(Compared { point, foretold, residual })
        });
        Ok(Self {
            machine: fitted.machine,
            points: compared.collect::<Result<_>>()?,
            memory: study.models.iter().flat_map(memory).collect(),
            power_laws,
            fitted,
        })
    }

    /// Those that the law was not fitted to.
    pub fn held_out(&self) -> impl Iterator<Item = &Compared> {
        self.points.iter().filter(|compared| compared.point.probe.held_out)
    }
}

fn memory(model: &Measured) -> Vec<ComparedMemory> {
    let compare = |taken: &super::memory::Taken| {
        let peaks = taken.probe_peak.zip(taken.gradient_peak);
        let measured = peaks.map(|(with, without)| with as f64 - without as f64);
        ComparedMemory {
            size: model.size.name.clone(),
            ranks: model.ranks,
            probe: taken.probe.name(),
            measured,
            foretold: taken.vectors,
            told: taken.told,
            residual: measured.map(|measured| taken.vectors as f64 / measured - 1.0),
        }
    };
    model.memory.iter().map(compare).collect()
}
