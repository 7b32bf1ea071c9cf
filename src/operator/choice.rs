//! Which scheme and step a product takes, and whether a better one is worth another try.

use crate::config::{Difference, StepSize};
use crate::operator::finite_difference::FiniteDifference;
use crate::operator::measure::Measured;
use crate::operator::product::Tried;
use crate::operator::scheme::Scheme;
use crate::operator::step::{Curvature, nearest_power, ratio};

/// Every so many vectors a product is central, so that its parity ratio is measured.
pub(crate) const PARITY_EVERY: usize = 8;
/// How much larger than the step just used the next one may be: beyond, its error is a guess.
const MAX_GROWTH: f64 = 8.0;
/// How much longer than the step just used one is that is tried because noise hid everything else.
const LONGER: f64 = 4.0;
/// Up to here, times what noise alone would give, the square of a parity ratio tells nothing: η is known within a factor
/// of two.
const HIDDEN: f64 = 4.0;

/// Up to here the error that is predicted from a parity ratio is right within a factor of 5; beyond, terms of
/// higher order may add to it.
const TRUSTED_PARITY: f64 = 0.05;

impl FiniteDifference<'_, '_> {
    /// η as it enters decisions: a power of four, so that rounding does not decide.
    pub(super) fn rounded_noise(&self) -> f64 {
        nearest_power(self.noise, 4.0)
    }

    /// What is known of vector `index` before its product: from the last run's vector of that number, or
    /// from the vector before it.
    pub(super) fn foreseen(&self, index: usize, expected_norm: Option<f64>) -> Option<Curvature> {
        let earlier = self.calibration.curvature.get(index).map(|&(norm, parity)| Curvature { norm, parity });
        earlier.or_else(|| self.last.map(|last| expected_norm.map_or(last, |norm| last.rescaled(norm))))
    }

    pub(super) fn fixed_step(&self) -> Option<f64> {
        match self.config.step_size {
            StepSize::Auto => None,
            StepSize::Absolute(h) => Some(h),
            StepSize::Relative(share) => Some(share * self.parameter_norm),
        }
    }

    /// The step for a vector along which the curvature is foreseen, or is not.
    pub(super) fn step_for(&self, scheme: Scheme, foreseen: Option<Curvature>) -> f64 {
        self.fixed_step().unwrap_or_else(|| {
            let best = foreseen.map(|curvature| curvature.best_step(scheme, self.rounded_noise()));
            best.map_or(self.range.first(), |best| self.range.fit(best))
        })
    }

    /// The scheme that vector `index` is to begin with.
    pub(super) fn scheme_for(&self, index: usize, foreseen: Option<Curvature>) -> Scheme {
        let measures_parity = foreseen.is_none() || index % PARITY_EVERY == 1;
        let forward_is_good = || {
            foreseen.is_some_and(|curvature| {
                let h = self.step_for(Scheme::Forward, foreseen);
                curvature.error(Scheme::Forward, self.rounded_noise(), h) <= self.config.max_relative_error
            })
        };
        match self.config.difference {
            Difference::Exact => Scheme::Exact,
            Difference::Central4 => Scheme::Central4,
            Difference::Forward if !measures_parity => Scheme::Forward,
            Difference::Auto if !measures_parity && forward_is_good() => Scheme::Forward,
            Difference::Central | Difference::Forward | Difference::Auto => Scheme::Central,
        }
    }

    /// The curvature along v that a two-sided difference measured. What noise adds to the even part is
    /// taken off, as far as it can be told apart: half as much again as is expected, since the expectation is no better
    /// than that, and what is left of noise would pass for curvature and keep steps short.
    pub(super) fn measured_curvature(&self, measured: &Measured, parity: f64) -> Curvature {
        let noise = self.noise_parity(measured);
        let kept = (parity.powi(2) - 1.5 * noise).max(0.1 * noise).sqrt();
        Curvature { norm: measured.norm(), parity: kept.min(parity) / measured.realised }
    }

    /// The square of the parity ratio that noise alone would have.
    fn noise_parity(&self, measured: &Measured) -> f64 {
        // Rounded as finely as steps are.
        let noise = nearest_power(self.noise, std::f64::consts::SQRT_2);
        ratio(6.0_f64.sqrt() * noise, 2.0 * measured.odd).powi(2)
    }

    /// A better way to compute a product: scheme and step, if there is one.
    pub(super) fn better(&self, tried: &Tried) -> Option<(Scheme, f64)> {
        if self.is_settled(tried) {
            return None;
        }
        let (noise, scheme, curvature) = (self.rounded_noise(), tried.record.scheme, tried.curvature);
        if scheme == Scheme::Forward && self.config.difference == Difference::Auto {
            return Some((Scheme::Central, self.step_for(Scheme::Central, Some(curvature))));
        }
        let largest = MAX_GROWTH * tried.record.step;
        let h = self.range.fit(curvature.best_step(scheme, noise).min(largest));
        (curvature.error(scheme, noise, h) <= 0.5 * tried.error).then_some((scheme, h))
    }

    /// A longer step for a product in which noise hid how much the curvature changes: the parity ratio only bounds it, and
    /// the best step may be several times as long as the one that follows from the bound. In bf16 it often is.
    pub(super) fn longer(&self, tried: &Tried) -> Option<f64> {
        let hidden = HIDDEN * self.noise_parity(&tried.measured);
        if self.is_settled(tried) || tried.measured.even.is_none() || tried.record.parity.powi(2) >= hidden {
            return None;
        }
        let h = self.range.fit(LONGER * tried.record.step);
        (h > tried.record.step).then_some(h)
    }

    /// Whether a product is as good as was asked for, or its step is the user's.
    fn is_settled(&self, tried: &Tried) -> bool {
        let good = tried.error <= self.config.max_relative_error && tried.record.parity <= TRUSTED_PARITY;
        good || self.fixed_step().is_some()
    }

    pub(super) fn remember(&mut self, index: usize, curvature: Curvature) {
        self.last = Some(curvature);
        let entry = (curvature.norm, curvature.parity);
        let known = &mut self.calibration.curvature;
        match known.get_mut(index) {
            Some(known) => *known = entry,
            // Vectors come in order, so that this is the next one.
            None => known.push(entry),
        }
    }
}
