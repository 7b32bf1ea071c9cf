//! What a probe meets on its way, and cannot be known before.

use crate::config::{Difference, ProbeConfig};
use crate::error::{Error, Result};
use crate::operator::{PARITY_EVERY, Scheme};
use crate::spectrum::Snapshot;

/// Gradients of a calibration besides those of its distances: one again at θ₀, and two central products.
const FIXED: u64 = 5;
/// Gradients at one distance: on either side of θ₀, at three points.
const PER_DISTANCE: u64 = 6;

/// Hessian-vector products by formula.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Products {
    /// By forward differences.
    pub forward: u64,
    /// By central ones.
    pub central: u64,
    /// By central ones of fourth order.
    pub central4: u64,
    /// By the host, which differentiates twice.
    pub exact: u64,
}

impl Products {
    /// Those of a run of `steps` Lanczos steps, where nothing is computed again and forward differences, under
    /// `difference = "auto"`, are accurate enough.
    #[must_use]
    pub fn of_run(difference: Difference, steps: u64) -> Self {
        match difference {
            Difference::Central => Self { central: steps, ..Self::default() },
            Difference::Central4 => Self { central4: steps, ..Self::default() },
            Difference::Exact => Self { exact: steps, ..Self::default() },
            Difference::Auto | Difference::Forward => {
                // Number 1, and every eighth after it.
                let central = u64::from(steps > 1) + steps.saturating_sub(2) / PARITY_EVERY as u64;
                Self { central, forward: steps - central, ..Self::default() }
            }
        }
    }

    /// So many of each.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        let Self { forward, central, central4, exact } = self;
        Self {
            forward: count.saturating_mul(forward),
            central: count.saturating_mul(central),
            central4: count.saturating_mul(central4),
            exact: count.saturating_mul(exact),
        }
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            forward: self.forward + other.forward,
            central: self.central + other.central,
            central4: self.central4 + other.central4,
            exact: self.exact + other.exact,
        }
    }

    /// The gradients that they take, each as many as [its formula](Scheme::gradients).
    #[must_use]
    pub fn gradients(&self) -> u64 {
        let all = [
            (self.forward, Scheme::Forward),
            (self.central, Scheme::Central),
            (self.central4, Scheme::Central4),
            (self.exact, Scheme::Exact),
        ];
        all.into_iter().map(|(count, scheme)| count * scheme.gradients()).sum()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.forward + self.central + self.central4 + self.exact
    }
}

/// How a probe went, or is assumed to go: on the Hessian, without single directions and diagonal blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// Distances of points (1 to 4) at which the noise is looked for, where it is due.
    pub calibration: Option<u64>,
    /// The products that count.
    pub products: Products,
    /// Products that were computed again with a better step or formula.
    pub redone: Products,
    /// Steps of all runs together at which partial reorthogonalisation went through the whole basis.
    pub reorthogonalized: u64,
}

impl Course {
    /// What is to be expected: with `calibration`, at that many distances; of all products the share `redone` is computed
    /// again, and partial reorthogonalisation goes through the basis at the share `reorthogonalized` of all steps.
    #[must_use]
    pub fn expected(
        config: &ProbeConfig,
        calibration: Option<u64>,
        redone: f64,
        reorthogonalized: f64,
    ) -> Self {
        let slq = &config.slq;
        let (steps, runs) = (slq.steps as u64, super::work::runs(slq));
        let products = Products::of_run(config.hvp.difference, steps).times(runs);
        let share = |count: u64, share: f64| (count as f64 * share).ceil() as u64;
        let Products { forward, central, central4, .. } = products;
        let redone = Products {
            forward: share(forward, redone),
            central: share(central, redone),
            central4: share(central4, redone),
            exact: 0,
        };
        let calibration = calibration.filter(|_| config.hvp.difference != Difference::Exact);
        Self {
            calibration,
            products,
            redone,
            reorthogonalized: share(steps.saturating_mul(runs), reorthogonalized),
        }
    }

    /// How the probe of `snapshot` went, taken with `config`. `None` where that cannot be told: with single directions,
    /// diagonal blocks or another operator, for a probe that was resumed, or where points of the noise were so close that no
    /// parameter moved.
    #[must_use]
    pub fn of(snapshot: &Snapshot, config: &ProbeConfig) -> Option<Self> {
        let (hvp, cost) = (&snapshot.hvp, &snapshot.cost);
        let plain = snapshot.block_diagonal.is_none() && !config.directions.is_on();
        if !plain || !config.slq.operator.is_hessian() || config.resume.every.is_some() {
            return None;
        }
        let products =
            Products { forward: hvp.forward, central: hvp.central, central4: hvp.central4, exact: hvp.exact };
        let calibration = match cost.calibration_gradients {
            0 => None,
            gradients => {
                let at_points = gradients.checked_sub(FIXED)?;
                Some(at_points.is_multiple_of(PER_DISTANCE).then_some(at_points / PER_DISTANCE)?)
            }
        };
        // One formula takes one gradient, another two: their number tells how many of each were computed again.
        let again = cost.gradients.checked_sub(1 + cost.calibration_gradients + products.gradients())?;
        let redone = match config.hvp.difference {
            Difference::Central4 => Products { central4: hvp.redone, ..Products::default() },
            _ => {
                let central = again.checked_sub(hvp.redone)?;
                Products { central, forward: hvp.redone.checked_sub(central)?, ..Products::default() }
            }
        };
        (redone.gradients() == again).then_some(())?;
        let against_all = snapshot.probes.iter().map(|run| run.reorthogonalized as u64).sum();
        Some(Self { calibration, products, redone, reorthogonalized: against_all })
    }

    /// Gradients that measure the noise.
    #[must_use]
    pub fn calibration_gradients(&self) -> u64 {
        self.calibration.map_or(0, |distances| FIXED + PER_DISTANCE * distances)
    }

    /// All gradients, that at θ₀ included.
    #[must_use]
    pub fn gradients(&self) -> u64 {
        1 + self.calibration_gradients() + self.products.gradients() + self.redone.gradients()
    }

    /// Central differences of a calibration.
    pub(super) fn calibration_differences(&self) -> u64 {
        self.calibration.map_or(0, |distances| 2 + 3 * distances)
    }
}

/// A share, as it is given.
pub(super) fn share(key: &str, value: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(Error::config(key, format!("{value} is not a share between 0 and 1")))
    }
}
