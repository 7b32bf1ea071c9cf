//! How long a machine takes for what is counted: the law of time.

use super::facts::Facts;
use super::parts::Parts;
use super::work::{Passes, Work};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The constants of a machine, for one rank. `cargo xtask bench --scaling` fits them to measured probes.
///
/// | part | seconds |
/// |---|---|
/// | gradients | their number × the time of one |
/// | products, Lanczos, saving | bytes ÷ bandwidth + pieces × time of a piece |
/// | drawing, check | entries, multiplications ÷ rate |
/// | all_reduces, over several ranks | (number × latency + values × time of a value) × log₂ ranks |
/// | a basis that moves | bytes ÷ bandwidth of the link |
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Bytes a second of passes that displace θ and take differences.
    pub product_bandwidth: f64,
    /// Of the recurrence and orthogonalisation.
    pub lanczos_bandwidth: f64,
    /// Of plain copies.
    pub copy_bandwidth: f64,
    /// Between the CPU's memory and an accelerator's.
    pub link_bandwidth: f64,
    /// Multiplications and additions a second of QQᵀ.
    pub multiplications: f64,
    /// Entries of a probe vector drawn a second.
    pub drawn: f64,
    /// Seconds of a piece of a pass besides its bytes.
    pub piece_seconds: f64,
    /// Seconds of an all_reduce for each doubling of ranks.
    pub all_reduce_seconds: f64,
    /// Seconds of each value in it, likewise.
    pub value_seconds: f64,
    /// Seconds of each probe besides all that.
    pub fixed_seconds: f64,
}

impl Machine {
    /// A guess where nothing was measured, from the bandwidth of a rank's memory in bytes a second: passes of products reach
    /// a third of it, as they sum in f64; those of Lanczos and copies a half.
    ///
    /// # Errors
    /// [`Error::Config`] for what is not a positive number.
    pub fn of_bandwidth(memory: f64) -> Result<Self> {
        positive("plan.memory_bandwidth", memory)?;
        Ok(Self {
            product_bandwidth: memory / 3.0,
            lanczos_bandwidth: memory / 2.0,
            copy_bandwidth: memory / 2.0,
            link_bandwidth: 2e10_f64.min(memory),
            multiplications: memory,
            drawn: 2.5e8,
            piece_seconds: 5e-5,
            all_reduce_seconds: 1e-4,
            value_seconds: 1e-8,
            fixed_seconds: 2e-3,
        })
    }

    /// Checks that every constant is one.
    ///
    /// # Errors
    /// [`Error::Config`] with the first that is not.
    pub fn validate(&self) -> Result<()> {
        let rates = [
            ("product_bandwidth", self.product_bandwidth),
            ("lanczos_bandwidth", self.lanczos_bandwidth),
            ("copy_bandwidth", self.copy_bandwidth),
            ("link_bandwidth", self.link_bandwidth),
            ("multiplications", self.multiplications),
            ("drawn", self.drawn),
        ];
        rates
            .into_iter()
            .try_for_each(|(name, value)| positive(&format!("machine.{name}"), value).map(drop))?;
        let times = [
            ("piece_seconds", self.piece_seconds),
            ("all_reduce_seconds", self.all_reduce_seconds),
            ("value_seconds", self.value_seconds),
            ("fixed_seconds", self.fixed_seconds),
        ];
        match times.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            Some((name, value)) => {
                Err(Error::config(format!("machine.{name}"), format!("{value} is not a number of seconds")))
            }
            None => Ok(()),
        }
    }

    /// The time of `work`, a gradient taking `gradient_seconds` and an exact product of the host three times that.
    #[must_use]
    pub fn seconds(&self, facts: &Facts, work: &Work, gradient_seconds: f64) -> Parts {
        let passes = |passes: Passes, bandwidth: f64| {
            passes.bytes as f64 / bandwidth + passes.pieces as f64 * self.piece_seconds
        };
        let doublings = (facts.ranks as f64).log2();
        let reductions = |number: u64, values: u64| {
            doublings * (number as f64 * self.all_reduce_seconds + values as f64 * self.value_seconds)
        };
        let (noise_number, noise_values) = work.calibration_reductions;
        let own = (work.all_reduces - noise_number, work.reduced_values - noise_values);
        let gradients = work.gradients - work.calibration_gradients + 3 * work.exact_products;
        Parts {
            gradients: gradients as f64 * gradient_seconds,
            calibration: work.calibration_gradients as f64 * gradient_seconds
                + passes(work.calibration, self.product_bandwidth)
                + reductions(noise_number, noise_values)
                // The second vector, for the asymmetry.
                + if work.calibration_gradients > 0 { facts.entries as f64 / self.drawn } else { 0.0 },
            all_reduces: reductions(own.0, own.1),
            saving: passes(work.saving, self.copy_bandwidth),
            drawing: work.drawn as f64 / self.drawn,
            products: passes(work.products, self.product_bandwidth),
            lanczos: passes(work.lanczos, self.lanczos_bandwidth) + work.moved as f64 / self.link_bandwidth,
            checks: work.checked as f64 / self.multiplications,
            blocks: 0.0,
            other: self.fixed_seconds,
        }
    }
}

/// Such a number, or an error that names it.
pub(super) fn positive(key: &str, value: f64) -> Result<f64> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(Error::config(key, format!("{value} is not a positive number")))
    }
}
