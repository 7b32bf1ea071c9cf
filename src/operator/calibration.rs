//! What is learned once and kept for several probes: η, the noise of one gradient.
//!
//! Along a random unit vector v the second difference g(θ+hv) + g(θ−hv) − 2g(θ) is h²∇³L[v,v] and
//! noise of norm √6·η (weights 1, 1, −2). The first shrinks with h², the second does not: at steps
//! well below the one that suits v it is all that is left. Two steps that agree show it.

use crate::error::Result;
use crate::krylov::Operator;
use crate::operator::finite_difference::FiniteDifference;
use crate::operator::step::{StepRange, ratio};
use crate::sharded::sums::{self, Sums};
use crate::sharded::vector::chunks;
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

pub(super) const AT_THETA: &str = "the gradient at the unperturbed parameters";
const NOISE: &str = "measuring the gradient's noise";

/// The first step at which noise is looked for, as a share of the step that suits a random vector.
const FIRST_SHARE: f64 = 1.0 / 16.0;
/// The ratio of one step to the next.
const SHRINK: f64 = 1.0 / 4.0;
/// Steps tried at most.
const MAX_STEPS: usize = 5;

/// What one probe learns about the gradient and hands on to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// η, the norm of the noise of one gradient.
    pub noise: Option<f64>,
    /// Whether two gradients at the same parameters had the same bits.
    pub gradient_repeats: Option<bool>,
    /// Snapshots since the noise was measured.
    pub age: u64,
    /// For each vector of a run, ‖Hq_j‖ and the parity ratio per unit of h.
    pub curvature: Vec<(f64, f64)>,
}

impl FiniteDifference<'_, '_> {
    /// Loss, gradient and norms at θ₀; the noise, where it is due.
    pub(super) fn look(&mut self, direction: &Tensor, w: &mut Tensor) -> Result<()> {
        let gradient = self.gradient(AT_THETA);
        if let Some(tensors) = gradient {
            let copied = self.origin.gather_from(self.layout, &tensors);
            self.defer(AT_THETA, copied);
        }
        let local = self.norms();
        let norms = self.sum(AT_THETA, 2, local)?;
        self.parameter_norm = norms[0].sqrt();
        self.gradient_norm = norms[1].sqrt();
        self.finite(self.gradient_norm, "the gradient", AT_THETA)?;
        self.range = StepRange::new(self.parameter_norm, self.layout.parameter_roundoff());
        let due = self.calibration.noise.is_none() || self.calibration.age >= self.config.recalibrate_every;
        let least = least(self.gradient_norm, self.layout.parameter_roundoff());
        if due {
            self.calibration.gradient_repeats = Some(self.repeats()?);
            self.calibration.noise = Some(self.measure_noise(direction, w, least)?);
            self.calibration.age = 0;
        }
        self.calibration.age += 1;
        self.noise = self.calibration.noise.unwrap_or(least).max(least);
        Ok(())
    }

    pub(super) fn norms(&self) -> Result<Vec<f64>, TchError> {
        let mut theta = Sums::<1>::new();
        for chunk in chunks(self.layout).filter(|chunk| chunk.counted) {
            theta.add_square(&chunk.of_shard(self.guard.saved())?)?;
        }
        Ok(vec![theta.finish()?[0], sums::norm_squared(self.layout, self.origin.tensor())?])
    }

    /// Whether the gradient at θ₀ is the same when it is taken again.
    pub(super) fn repeats(&mut self) -> Result<bool> {
        self.calibration_gradients += 1;
        let again = self.gradient(NOISE);
        let difference = |tensors: &[Tensor]| -> Result<f64, TchError> {
            let mut sums = Sums::<1>::new();
            for chunk in chunks(self.layout) {
                let origin = chunk.of(self.origin.tensor())?.f_to_kind(Kind::Double)?;
                let difference = chunk.of_shard(tensors)?.f_to_kind(Kind::Double)?.f_sub(&origin)?;
                sums.add_square(&difference)?;
            }
            Ok(sums.finish()?[0])
        };
        let local = again.map_or(Ok(0.0), |tensors| difference(&tensors)).map(|squared| vec![squared]);
        let squared = self.sum(NOISE, 1, local)?[0];
        self.finite(squared, "the gradient", NOISE)?;
        Ok(squared == 0.0)
    }

    /// η from second differences at two small steps that agree. On the way, the curvature along
    /// `direction`, the first vector of the coming run, so that its product starts with a step that suits it.
    pub(super) fn measure_noise(&mut self, direction: &Tensor, w: &mut Tensor, least: f64) -> Result<f64> {
        let mut h = self.range.first();
        self.calibration_gradients += 2;
        let at_first = self.central(direction, h, w, NOISE)?;
        h *= FIRST_SHARE;
        let mut previous = None;
        let mut found = f64::INFINITY;
        for _ in 0..MAX_STEPS {
            self.calibration_gradients += 2;
            let even = self.central(direction, self.range.fit(h), w, NOISE)?.even.unwrap_or(0.0);
            found = found.min(even);
            if previous.is_some_and(|previous| settled(previous, even)) {
                break;
            }
            previous = Some(even);
            h *= SHRINK;
        }
        self.noise = (found / 6.0_f64.sqrt()).max(least);
        let parity = ratio(at_first.even.unwrap_or(0.0), 2.0 * at_first.odd);
        let curvature = self.measured_curvature(&at_first, parity);
        self.remember(0, curvature);
        Ok(self.noise)
    }
}

/// Whether second differences at h and at [`SHRINK`]·h are both noise: curvature alone would have shrunk
/// by a factor 16.
fn settled(larger: f64, smaller: f64) -> bool {
    smaller >= 0.5 * larger
}

/// The least noise to assume of a gradient of that norm, whose entries are rounded once at least.
fn least(gradient_norm: f64, roundoff: f64) -> f64 {
    0.1 * roundoff * gradient_norm
}
