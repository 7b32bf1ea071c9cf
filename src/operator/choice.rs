//! Which scheme and step a product takes, and whether a better one is worth another try.

use crate::config::{Difference, StepSize};
use crate::operator::finite_difference::FiniteDifference;
use crate::operator::measure::Measured;
use crate::operator::scheme::Scheme;
use crate::operator::step::{Curvature, nearest_power, ratio};

/// Every so many vectors a product is central, so that its parity ratio is measured.
pub(crate) const PARITY_EVERY: usize = 8;
/// How much larger than the step just used the next one may be: beyond, its error is a guess.
const MAX_GROWTH: f64 = 8.0;

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

    /// Whether a two-sided difference says no more of the even part than that it is smaller than its noise.
    pub(super) fn even_is_noise(&self, measured: &Measured, parity: f64) -> bool {
        measured.even.is_some() && parity.powi(2) < 1.6 * self.noise_parity(measured)
    }

    /// The square of the parity ratio that noise alone would have.
    fn noise_parity(&self, measured: &Measured) -> f64 {
        // Rounded as finely as steps are.
        let noise = nearest_power(self.noise, std::f64::consts::SQRT_2);
        ratio(6.0_f64.sqrt() * noise, 2.0 * measured.odd).powi(2)
    }

    /// A better way to compute a product whose error is `error`: scheme and step, if there is one. `explores`: of a
    /// curvature that is hidden in noise, it is not to be taken for as large as it may be.
    pub(super) fn better(
        &self,
        scheme: Scheme,
        curvature: Curvature,
        used: f64,
        error: f64,
        parity: f64,
        explores: bool,
    ) -> Option<(Scheme, f64)> {
        let good = error <= self.config.max_relative_error && parity <= TRUSTED_PARITY;
        if good || self.fixed_step().is_some() {
            return None;
        }
        let noise = self.rounded_noise();
        if scheme == Scheme::Forward && self.config.difference == Difference::Auto {
            return Some((Scheme::Central, self.step_for(Scheme::Central, Some(curvature))));
        }
        let h = self.range.fit(curvature.best_step(scheme, noise).min(MAX_GROWTH * used));
        let there = if explores { Curvature { parity: 0.0, ..curvature } } else { curvature };
        (there.error(scheme, noise, h) <= 0.5 * error).then_some((scheme, h))
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
