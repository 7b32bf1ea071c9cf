//! What is kept: medians over rounds, as rank 0 measured them.

use super::case::{Case, Probe, Size};
use super::fit::median;
use super::memory::{Memories, Taken};
use super::time::{Measured as Rounds, Round, Sizes, Times, Told};
use crate::Result;
use hessian_probe::cost::Parts;
use serde::{Deserialize, Serialize};

/// All that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Study {
    /// Of the machine.
    pub cores: usize,
    /// Of a rank.
    pub threads: usize,
    pub rounds: usize,
    pub models: Vec<Measured>,
}

/// A model on so many ranks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub size: Size,
    pub ranks: u64,
    #[serde(flatten)]
    pub sizes: Sizes,
    pub probes: Vec<Probed>,
    pub memory: Vec<Taken>,
}

/// A way to probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probed {
    pub probe: Probe,
    /// Of one gradient alone.
    pub gradient_seconds: f64,
    /// A probe that measures the noise, where such ones were taken, and one that does not.
    pub calibrating: Option<Median>,
    pub plain: Median,
}

/// Of what probes told of their cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Median {
    #[serde(flatten)]
    pub told: Told,
    /// How far `seconds` are from their median: the median deviation, as a share.
    pub spread: f64,
}

impl Measured {
    /// Medians of what the processes of a case told.
    ///
    /// # Errors
    /// Where there were no rounds.
    pub fn of(case: &Case, times: &Times, memories: &Memories) -> Result<Self> {
        Ok(Self {
            size: case.size.clone(),
            ranks: case.world_size as u64,
            sizes: times.sizes.clone(),
            probes: times.probes.iter().map(Probed::of).collect::<Result<_>>()?,
            memory: memories.probes.clone(),
        })
    }
}

impl Probed {
    fn of(measured: &Rounds) -> Result<Self> {
        let alone: Vec<f64> = measured.rounds.iter().map(|round| round.gradient_seconds).collect();
        let over = |told: &dyn Fn(&Round) -> Option<&Told>| {
            let rounds: Vec<&Told> = measured.rounds.iter().filter_map(told).collect();
            Median::of(&rounds)
        };
        Ok(Self {
            probe: measured.probe,
            gradient_seconds: median(&alone),
            calibrating: over(&|round| round.calibrating.as_ref()),
            plain: over(&|round| Some(&round.plain)).ok_or("no rounds")?,
        })
    }
}

impl Median {
    /// `None` of nothing.
    fn of(rounds: &[&Told]) -> Option<Self> {
        // Counts are the same in each round, as the numbers are.
        let &first = rounds.first()?;
        let over =
            |of: &dyn Fn(&Told) -> f64| median(&rounds.iter().map(|told| of(told)).collect::<Vec<_>>());
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
        let spread = over(&|told| (told.seconds - seconds).abs()) / seconds;
        Some(Self { told: Told { seconds, parts, ..first.clone() }, spread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_part_by_part_and_spreads_of_the_whole() {
        let told = |seconds: f64, lanczos: f64| Told {
            seconds,
            parts: Parts { gradients: seconds - lanczos, lanczos, ..Parts::default() },
            gradients: 7,
            calibration_gradients: 0,
            products: 3,
            redone: 0,
            distances: None,
        };
        let rounds = [told(4.0, 1.0), told(9.0, 0.5), told(5.0, 3.0)];
        let median = Median::of(&rounds.each_ref()).unwrap();
        // Deviations from 5 are 1, 4 and 0.
        assert_eq!((median.told.seconds, median.spread), (5.0, 0.2));
        assert_eq!((median.told.parts.lanczos, median.told.parts.gradients), (1.0, 3.0));
        assert_eq!(median.told.gradients, 7);
        assert!(Median::of(&[]).is_none());
    }
}
