//! Probes as the law sees them, and what a plan foretells of them.

use super::case::Probe;
use super::fit::Fitted;
use super::record::{Measured, Median, Probed};
use super::time::Sizes;
use crate::Result;
use hessian_probe::config::Difference;
use hessian_probe::cost::{Course, Facts, Parts, Plan, Products, Question, Types, Work};
use serde::Serialize;

/// A probe of a model on some ranks.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    pub size: String,
    pub ranks: u64,
    #[serde(flatten)]
    pub sizes: Sizes,
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
    /// Those of one model: each way to probe, with and without a calibration.
    ///
    /// # Errors
    /// What the law cannot count.
    pub fn of(model: &Measured, threads: usize) -> Result<Vec<Self>> {
        let layers = model.sizes.blocks as u64;
        // Nine tensors in a layer; the embedding, the last norm.
        let tensors = 9 * layers.saturating_sub(2) + 2;
        let types = Types { threads: threads as u64, ..Types::default() };
        let facts = Facts::planned(model.sizes.parameters, model.sizes.entries, model.ranks, tensors, types)?;
        let taken = model.probes.iter().flat_map(|probed| {
            let calibrating = probed.calibrating.iter().map(|median| (median, true));
            calibrating.chain([(&probed.plain, false)]).map(move |(median, noise)| (probed, median, noise))
        });
        taken
            .map(|(probed, median, calibrates)| Self::one(model, facts, probed, median, calibrates))
            .collect()
    }

    fn one(
        model: &Measured,
        facts: Facts,
        probed: &Probed,
        Median { told, spread }: &Median,
        calibrates: bool,
    ) -> Result<Self> {
        let config = probed.probe.config();
        let again = match config.hvp.difference {
            Difference::Central => Products { central: told.redone, ..Products::default() },
            _ => Products { forward: told.redone, ..Products::default() },
        };
        let course = Course { redone: again, ..Course::expected(&config, told.distances, 0.0, 0.0) };
        Ok(Self {
            size: model.size.name.clone(),
            ranks: model.ranks,
            sizes: model.sizes.clone(),
            probe: probed.probe,
            calibrates,
            gradient_seconds: probed.gradient_seconds,
            seconds: told.seconds,
            spread: *spread,
            parts: told.parts,
            products: told.products,
            redone: told.redone,
            distances: told.distances,
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

    /// The share of its time that its gradients take alone.
    pub fn of_it_gradients(&self) -> f64 {
        let calibration = self.gradient_seconds * self.work.calibration_gradients as f64;
        (self.parts.gradients + calibration) / self.seconds
    }
}
