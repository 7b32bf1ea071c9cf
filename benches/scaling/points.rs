//! Medians of what was measured, and what a plan foretells of them.

use crate::Result;
use crate::case::{Case, Probe};
use crate::fit::{Fitted, median};
use crate::time::{Measured, Round, Times, Told};
use hessian_probe::cost::{Course, Facts, Parts, Plan, Products, Question, Types, Work};
use serde::Serialize;

/// A probe of a model on some ranks: medians over rounds, on rank 0.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    pub size: String,
    pub ranks: u64,
    pub parameters: u64,
    pub entries: u64,
    pub tokens: u64,
    pub blocks: usize,
    pub gathered: u64,
    pub reduced: u64,
    pub probe: Probe,
    /// Whether this probe measured the noise.
    pub calibrates: bool,
    /// Of one gradient alone.
    pub gradient_seconds: f64,
    pub seconds: f64,
    /// The spread of `seconds` over rounds: the median deviation, as a share.
    pub spread: f64,
    pub parts: Parts,
    pub products: u64,
    pub redone: u64,
    pub distances: Option<u64>,
    #[serde(skip)]
    facts: Facts,
    /// What the law counts of it, with the course that it took.
    #[serde(skip)]
    pub work: Work,
}

impl Point {
    /// Those of one process: each way to probe, with and without a calibration.
    pub fn of(case: &Case, times: &Times) -> Result<Vec<Self>> {
        let layers = times.blocks as u64;
        // Nine tensors in a layer; the embedding, the last norm.
        let tensors = 9 * layers.saturating_sub(2) + 2;
        let types = Types { threads: case.threads as u64, ..Types::default() };
        let ranks = case.world_size as u64;
        let facts = Facts::planned(times.parameters, times.entries, ranks, tensors, types)?;
        let both = times.probes.iter().flat_map(|measured| [(measured, true), (measured, false)]);
        both.map(|(measured, calibrates)| Self::one(case, times, facts, measured, calibrates)).collect()
    }

    fn one(case: &Case, times: &Times, facts: Facts, measured: &Measured, calibrates: bool) -> Result<Self> {
        let told = |round: &Round| if calibrates { round.calibrating.clone() } else { round.plain.clone() };
        let rounds: Vec<Told> = measured.rounds.iter().map(told).collect();
        let over = |of: &dyn Fn(&Told) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
        let alone: Vec<f64> = measured.rounds.iter().map(|round| round.gradient_seconds).collect();
        let seconds = over(&|told| told.seconds);
        let parts = Parts {
            gradients: over(&|told| told.parts.gradients),
            calibration: over(&|told| told.parts.calibration),
            all_reduces: over(&|told| told.parts.all_reduces),
            saving: over(&|told| told.parts.saving),
            drawing: over(&|told| told.parts.drawing),
            products: over(&|told| told.parts.products),
            lanczos: over(&|told| told.parts.lanczos),
            checks: over(&|told| told.parts.checks),
            blocks: over(&|told| told.parts.blocks),
            other: over(&|told| told.parts.other),
        };
        let first = rounds.first().ok_or("no rounds")?;
        let config = measured.probe.config();
        // Counts are the same in each round, as the numbers are.
        let central = config.hvp.difference == hessian_probe::config::Difference::Central;
        let again = match central {
            true => Products { central: first.redone, ..Products::default() },
            false => Products { forward: first.redone, ..Products::default() },
        };
        let course = Course { redone: again, ..Course::expected(&config, first.distances, 0.0, 0.0) };
        Ok(Self {
            size: case.size.name.clone(),
            ranks: case.world_size as u64,
            parameters: times.parameters,
            entries: times.entries,
            tokens: times.tokens,
            blocks: times.blocks,
            gathered: times.gathered,
            reduced: times.reduced,
            probe: measured.probe,
            calibrates,
            gradient_seconds: median(&alone),
            seconds,
            spread: over(&|told| (told.seconds - seconds).abs()) / seconds,
            parts,
            products: first.products,
            redone: first.redone,
            distances: first.distances,
            facts,
            work: Work::new(&facts, &config, &course)?,
        })
    }

    /// What a plan says, told the time of one gradient.
    pub fn foretold(&self, fitted: &Fitted) -> Result<Parts> {
        let question = Question {
            redone: fitted.redone.min(1.0),
            distances: fitted.distances,
            ..Question::new(self.facts, self.probe.config(), fitted.machine, self.gradient_seconds)
        };
        let plan = Plan::new(&question)?;
        Ok(if self.calibrates { plan.calibrating_seconds } else { plan.seconds })
    }

    pub fn place(&self) -> String {
        let calibrates = if self.calibrates { " + noise" } else { "" };
        let ranks = if self.ranks == 1 { "rank" } else { "ranks" };
        format!("{} {} {ranks} {}{calibrates}", self.size, self.ranks, self.probe.name())
    }
}
