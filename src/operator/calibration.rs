//! What is learned once and kept for several probes: η, the noise of one gradient, and whether the operator
//! is symmetric.
//!
//! The gradient is looked at in seven equidistant points θ + kδv, k = −3 … 3, along a random unit vector v:
//!
//! - the second difference g(θ+hv) + g(θ−hv) − 2g(θ) is h²∇³L[v,v] and noise of norm √6·η (weights 1, 1, −2).
//!   The first shrinks with h², the second does not: where the norms at δ, 2δ and 3δ are about the same,
//!   noise is all that is left. That is the noise of the whole gradient.
//! - [`ecnoise`](crate::operator::ecnoise) finds the noise of one component, ⟨g(θ+kδv), v⟩, from a table of
//!   differences. It cannot be larger than that of the whole.

use crate::config::{Difference, Distribution};
use crate::cost::clock::Region;
use crate::error::{Error, Result};
use crate::krylov::Operator;
use crate::operator::ecnoise::{self, Estimate};
use crate::operator::finite_difference::{FiniteDifference, Start};
use crate::operator::measure::Measured;
use crate::operator::step::{StepRange, ratio};
use crate::sharded::random::RandomProbe;
use crate::sharded::sums::{self, Sums};
use crate::sharded::vector::chunks;
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

pub(super) const AT_THETA: &str = "the gradient at the unperturbed parameters";
const NOISE: &str = "measuring the gradient's noise";
const ASYMMETRY: &str = "measuring the operator's asymmetry";

/// The largest distance of points at which noise is looked for, as a share of the step that suits a random
/// vector.
const LARGEST_SHARE: f64 = 1.0 / 16.0;
/// Points on either side of θ.
const POINTS: usize = 3;
/// Distances tried at most.
const MAX_DISTANCES: usize = 4;
/// The seed of the vector with which a random one is compared; probes are drawn with the user's.
const SECOND_SEED: u64 = 0x6a09_e667_f3bc_c908;

/// What one probe learns about the gradient and hands on to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibration {
    /// η, the norm of the noise of one gradient.
    pub noise: Option<f64>,
    /// The noise of one component of the gradient, ⟨g, v⟩ for a random unit vector v, by ECNoise; `None` where
    /// it did not settle.
    pub component_noise: Option<f64>,
    /// Whether two gradients at the same parameters had the same bits.
    pub gradient_repeats: Option<bool>,
    /// The norm of the difference of two gradients at the same parameters.
    pub repeat_difference: Option<f64>,
    /// |uᵀHv − vᵀHu| / (‖Hu‖‖v‖) for two independent random unit vectors, with the steps of a first vector.
    pub asymmetry: Option<f64>,
    /// Snapshots since the noise was measured.
    pub age: u64,
    /// For each vector of a run, ‖Hq_j‖ and the parity ratio per unit of h.
    pub curvature: Vec<(f64, f64)>,
    /// The same for runs with outliers deflated.
    pub deflated_curvature: Vec<(f64, f64)>,
    /// The same for the short runs that track the largest eigenvalue.
    pub tracked_curvature: Vec<(f64, f64)>,
    /// The same for runs on the preconditioned operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preconditioned_curvature: Vec<(f64, f64)>,
    /// The same for single directions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub direction_curvature: Vec<(f64, f64)>,
}

/// What probes hand on to later ones.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// Of the gradient.
    pub(crate) calibration: Calibration,
    /// The unit Ritz vector of the largest eigenvalue, where it is tracked.
    pub(crate) top: Option<Tensor>,
    /// Why the preconditioned spectrum was left out of the last probe, which has been said.
    pub(crate) left_out: Option<String>,
}

impl FiniteDifference<'_, '_> {
    /// Loss, gradient and norms at θ₀; the noise, where it is due.
    pub(super) fn look(&mut self, start: Start<'_>, w: &mut Tensor) -> Result<()> {
        let before = self.moment();
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
        self.range = StepRange::new(self.parameter_norm, self.guard.roundoff());
        let kept = self.moment();
        self.saving_time += before.own_until(kept);
        if self.config.difference == Difference::Exact {
            return Ok(());
        }
        let due = self.calibration.noise.is_none() || self.calibration.age >= self.config.recalibrate_every;
        let least = least(self.gradient_norm, self.guard.roundoff());
        if due {
            let difference = self.repeat_difference()?;
            self.calibration.gradient_repeats = Some(difference == 0.0);
            self.calibration.repeat_difference = Some(difference);
            let noise = self.measure_noise(start, w, least)?;
            // Two gradients at one θ differ by √2 times the noise that is not rounding of their parameters.
            self.calibration.noise = Some(noise.max(difference / std::f64::consts::SQRT_2));
            self.calibration.age = 0;
            self.calibrating = Region::between(kept, self.moment());
        }
        self.calibration.age += 1;
        self.noise = self.calibration.noise.unwrap_or(least).max(least);
        Ok(())
    }

    pub(super) fn norms(&self) -> Result<Vec<f64>, TchError> {
        let mut theta = Sums::<1>::new();
        for chunk in chunks(self.layout).filter(|chunk| chunk.counted) {
            theta.add_square(&self.guard.origin(&chunk)?)?;
        }
        Ok(vec![theta.finish()?[0], sums::norm_squared(self.layout, self.origin.tensor())?])
    }

    /// The norm of the difference of two gradients at θ₀.
    fn repeat_difference(&mut self) -> Result<f64> {
        self.calibration_gradients += 1;
        let again = self.gradient(NOISE);
        let difference = |tensors: &[Tensor]| -> Result<f64, TchError> {
            let mut sums = Sums::<1>::new();
            for chunk in chunks(self.layout).filter(|chunk| chunk.counted) {
                let origin = chunk.of(self.origin.tensor())?.f_to_kind(Kind::Double)?;
                let difference = chunk.of_shard(tensors)?.f_to_kind(Kind::Double)?.f_sub(&origin)?;
                sums.add_square(&difference)?;
            }
            Ok(sums.finish()?[0])
        };
        let local = again.map_or(Ok(0.0), |tensors| difference(&tensors)).map(|squared| vec![squared]);
        let squared = self.sum(NOISE, 1, local)?[0];
        self.finite(squared, "the gradient", NOISE)?;
        Ok(squared.sqrt())
    }

    /// η. On the way, the curvature along the first vector of the coming run, so that its product
    /// starts with a step that suits it, and the asymmetry, where there is room for a second vector.
    fn measure_noise(&mut self, start: Start<'_>, w: &mut Tensor, least: f64) -> Result<f64> {
        let direction = start.vector;
        let h = self.range.first();
        self.calibration_gradients += 2;
        let at_first = self.central(direction, h, w, NOISE)?;
        self.calibration.asymmetry = match start.spare {
            Some(spare) => Some(self.asymmetry(direction, spare, w, &at_first)?),
            None => None,
        };
        let even = at_first.even.unwrap_or(0.0);
        // The size of ⟨g, v⟩ for a vector of signs.
        let largest = self.gradient_norm / (self.layout.parameters() as f64).sqrt();
        // Where curvature is just about to vanish in the least noise there can be (at 3δ, with a factor 10).
        let vanishing = ratio(10.0 * 6.0_f64.sqrt() * least, even).sqrt() / POINTS as f64;
        let mut delta = self.range.fit_above_rounding(h * vanishing.min(LARGEST_SHARE));
        let mut whole = f64::INFINITY;
        let mut component = None;
        for _ in 0..MAX_DISTANCES {
            let Some(samples) = self.samples(direction, delta, at_first.alpha, w)? else {
                // Points so close that no parameter moves.
                delta = self.range.fit_above_rounding(100.0 * delta);
                continue;
            };
            whole = samples.evens.iter().fold(whole, |least, &even| least.min(even));
            let estimate = ecnoise::estimate(&samples.values, largest);
            if let Estimate::Noise(sigma) = estimate {
                component = Some(sigma);
            }
            let next = match estimate {
                _ if !samples.is_noise() => delta / 16.0,
                Estimate::TooFar if component.is_none() => delta / 100.0,
                Estimate::TooClose if component.is_none() => 100.0 * delta,
                _ => break,
            };
            let next = self.range.fit_above_rounding(next.min(LARGEST_SHARE * h));
            if next == delta {
                break;
            }
            delta = next;
        }
        let whole = if whole.is_finite() { whole / 6.0_f64.sqrt() } else { 0.0 };
        self.calibration.component_noise = component;
        self.noise = whole.max(component.unwrap_or(0.0)).max(least);
        let parity = ratio(even, 2.0 * at_first.odd);
        let curvature = self.measured_curvature(&at_first, parity);
        self.remember(0, curvature);
        Ok(self.noise)
    }

    /// The gradient at θ₀ + kδv, k = ±1 … ±[`POINTS`]; `None` where δ is so small that nothing moves.
    fn samples(&mut self, v: &Tensor, delta: f64, alpha: f64, w: &mut Tensor) -> Result<Option<Samples>> {
        let mut samples = Samples { values: vec![0.0; 2 * POINTS + 1], evens: Vec::new() };
        for k in 1..=POINTS {
            let h = k as f64 * delta;
            self.calibration_gradients += 2;
            let measured = match self.two_sided(v, h, w, true, NOISE) {
                Err(Error::StepTooSmall { .. }) => return Ok(None),
                other => other?,
            };
            // A step that is rounded is no noise: quotients divide by the realised one.
            let odd = 2.0 * (measured.alpha * measured.realised - alpha * (measured.realised - h));
            samples.values[POINTS + k] = 0.5 * (measured.even_along + odd);
            samples.values[POINTS - k] = 0.5 * (measured.even_along - odd);
            samples.evens.push(measured.even.unwrap_or(0.0));
        }
        Ok(Some(samples))
    }

    /// |uᵀHv − vᵀHu| / (‖Hu‖‖v‖), w being a multiple of Hu; v is drawn into `spare`.
    fn asymmetry(&mut self, u: &Tensor, spare: &Tensor, w: &mut Tensor, at_u: &Measured) -> Result<f64> {
        let second = RandomProbe::new(SECOND_SEED, 0, Distribution::Rademacher);
        let drawn = second.write_scaled(self.layout, spare);
        self.defer(ASYMMETRY, drawn);
        let local = sums::inner_product(self.layout, w, spare).map(|sum| vec![sum]);
        let v_hu = self.sum(ASYMMETRY, 1, local)?[0] * at_u.scale;
        self.calibration_gradients += 2;
        let at_v = self.central(spare, self.range.first(), w, ASYMMETRY)?;
        let local = sums::inner_product(self.layout, w, u).map(|sum| vec![sum]);
        let u_hv = self.sum(ASYMMETRY, 1, local)?[0] * at_v.scale;
        Ok(ratio((u_hv - v_hu).abs(), at_u.norm()))
    }
}

/// The gradient along a line.
struct Samples {
    /// ⟨g(θ + kδv) − g(θ), v⟩ for k from −[`POINTS`] to [`POINTS`].
    values: Vec<f64>,
    /// ‖g(θ + kδv) + g(θ − kδv) − 2g(θ)‖ for k from 1.
    evens: Vec<f64>,
}

impl Samples {
    /// Whether the second differences are noise: curvature alone would let the last be 9 times the first.
    fn is_noise(&self) -> bool {
        self.evens.first().zip(self.evens.last()).is_some_and(|(first, last)| *last <= 3.0 * first)
    }
}

/// The least noise to assume of a gradient of that norm, whose entries are rounded once at least.
fn least(gradient_norm: f64, roundoff: f64) -> f64 {
    0.1 * roundoff * gradient_norm
}
