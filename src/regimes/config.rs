//! What is measured.

use super::Method;
use crate::config::{BasisConfig, Difference, HvpConfig};
use crate::error::{Error, Result};
use crate::host::Host;
use serde::{Deserialize, Serialize};

/// The largest step of a sweep, as a share of ‖θ‖: the largest that a probe takes.
const LARGEST: f64 = 0.1;
/// The smallest, as a share of ‖θ‖.
const SMALLEST: f64 = 1e-10;
/// Steps below this share of rounding move hardly a parameter, even along vectors of few large entries.
const BELOW_ROUNDOFF: f64 = 1e-4;
/// What measuring the noise takes as a rule.
const NOISE_GRADIENTS: u64 = 17;

/// What is measured of each host.
///
/// ```
/// use hessian_probe::regimes::{Method, RegimesConfig};
///
/// let config: RegimesConfig = toml::from_str("steps = 6\npoints_per_decade = 1")?;
/// config.validate()?;
/// assert!(config.plan(Method::Exact).sweep > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegimesConfig {
    /// The seed of the random vector.
    pub seed: u64,
    /// m, the Lanczos steps of the reference and of each run; at most n.
    pub steps: usize,
    /// Steps h in each decade of a sweep.
    pub points_per_decade: usize,
    /// How products are computed in the runs whose T is compared with the reference's: one run for each. The first
    /// also makes the [configured](super::DirectionRecord::configured) choice.
    pub runs: Vec<HvpConfig>,
    /// How Lanczos vectors are stored.
    pub basis: BasisConfig,
}

impl Default for RegimesConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 12,
            points_per_decade: 2,
            runs: vec![HvpConfig::default()],
            basis: BasisConfig::default(),
        }
    }
}

/// About how many gradients, or for exact products double backward passes, a study takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// At the reference host.
    pub reference: u64,
    /// In the sweeps at a tested host.
    pub sweep: u64,
    /// In the Lanczos runs at a tested host.
    pub runs: u64,
}

impl RegimesConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Config`] with the key at fault.
    pub fn validate(&self) -> Result<()> {
        if self.steps == 0 {
            return Err(Error::config("regimes.steps", "must be at least 1"));
        }
        if self.points_per_decade == 0 {
            return Err(Error::config("regimes.points_per_decade", "must be at least 1"));
        }
        let Some(first) = self.runs.first() else {
            return Err(Error::config("regimes.runs", "must name at least one way to compute products"));
        };
        if self.runs.iter().any(|run| run.precision != first.precision) {
            return Err(Error::config("regimes.runs", "must all be in the same precision"));
        }
        self.runs.iter().try_for_each(HvpConfig::validate)
    }

    /// The same, for the host under test.
    pub(super) fn validate_for(&self, host: &dyn Host) -> Result<()> {
        self.validate()?;
        let exact = self.runs.iter().any(|run| run.difference == Difference::Exact);
        if exact && !host.offers_exact_hvp() {
            let reason = "\"exact\" needs a host that offers exact products, and the tested one does not";
            return Err(Error::config("hvp.difference", reason));
        }
        Ok(())
    }

    /// The gradients that a study takes, about: redone products depend on the model.
    #[must_use]
    pub fn plan(&self, method: Method) -> Plan {
        let steps = self.steps as u64;
        let products = match method {
            Method::Exact => steps + 3,
            // Steps are looked for: a product in two is computed again.
            Method::Central4 => 6 * steps + 3 * 8 + NOISE_GRADIENTS,
            Method::Richardson => 6 * steps + 3 * 6 + NOISE_GRADIENTS,
        };
        let rows = (LARGEST / SMALLEST).log10().ceil() as u64 * self.points_per_decade as u64 + 1;
        let run = |config: &HvpConfig| match config.difference {
            Difference::Exact | Difference::Auto | Difference::Forward => steps + 4,
            Difference::Central => 2 * steps + 2,
            Difference::Central4 => 4 * steps + 4,
        };
        let runs: u64 = self.runs.iter().map(run).sum();
        Plan { reference: 1 + products, sweep: 1 + NOISE_GRADIENTS + 3 * (3 * rows + 12), runs: 1 + runs }
    }

    /// The steps of a sweep, ascending.
    pub(super) fn grid(&self, parameter_norm: f64, roundoff: f64) -> Vec<f64> {
        let scale = if parameter_norm > 0.0 { parameter_norm } else { 1.0 };
        let per_decade = self.points_per_decade as f64;
        let position = |h: f64| h.log10() * per_decade;
        let first = position(scale * SMALLEST.max(BELOW_ROUNDOFF * roundoff)).ceil() as i64;
        let last = position(scale * LARGEST).floor() as i64;
        (first..=last).map(|k| 10_f64.powf(k as f64 / per_decade)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_of_other_precisions_have_the_same_steps_where_they_overlap() {
        let config = RegimesConfig { points_per_decade: 3, ..RegimesConfig::default() };
        let double = config.grid(12.3, 1.1e-16);
        let half = config.grid(12.31, 3.9e-3);
        assert!(double.iter().all(|&h| (1.23e-9..=1.231).contains(&h)), "{double:?}");
        assert_eq!(double.len(), 27);
        assert!(half[0] >= 0.9 * 12.3 * 3.9e-7 && half.len() < double.len());
        assert!(half.iter().all(|h| double.contains(h)));
        assert!(double.windows(2).all(|pair| (pair[1] / pair[0] - 10_f64.powf(1.0 / 3.0)).abs() < 1e-9));
    }

    #[test]
    fn what_cannot_be_measured_is_refused_by_its_key() {
        let good = RegimesConfig::default();
        good.validate().unwrap();
        let full = HvpConfig { precision: crate::Precision::Full, ..HvpConfig::default() };
        for (config, key) in [
            (RegimesConfig { steps: 0, ..good.clone() }, "regimes.steps"),
            (RegimesConfig { points_per_decade: 0, ..good.clone() }, "points_per_decade"),
            (RegimesConfig { runs: Vec::new(), ..good.clone() }, "regimes.runs"),
            (RegimesConfig { runs: vec![HvpConfig::default(), full], ..good.clone() }, "same precision"),
            (
                RegimesConfig {
                    runs: vec![HvpConfig { recalibrate_every: 0, ..HvpConfig::default() }],
                    ..good.clone()
                },
                "recalibrate_every",
            ),
        ] {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
