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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HvpConfig;
    use crate::operator::product::ProductRecord;
    use crate::operator::step::StepRange;
    use crate::operator::{Calibration, Start};
    use crate::sharded::layout::Layout;
    use crate::{Gradient, Host, HostError, Interrupter, ProcessGroup, Shard, SingleProcess};
    use tch::Tensor;

    /// ‖θ‖²/2; what is decided here depends on made-up measurements only.
    struct Square(Tensor);

    impl Host for Square {
        fn shards(&self) -> Vec<Shard> {
            Shard::whole([("x".into(), self.0.shallow_clone())], false)
        }

        fn gradient(&mut self) -> Result<Gradient, HostError> {
            Ok(Gradient { loss: self.0.dot(&self.0).double_value(&[]) / 2.0, tensors: vec![self.0.copy()] })
        }

        fn group(&self) -> &dyn ProcessGroup {
            &SingleProcess
        }
    }

    /// A power of four, as noise is where it decides.
    const NOISE: f64 = 1.0 / (1 << 20) as f64;
    /// Central differences are best with h about 0.004: an error of 2·10⁻⁴.
    const CURVATURE: Curvature = Curvature { norm: 1.0, parity: 2.0 };

    /// What [`FiniteDifference::better`] says of a product with the step h that predicts its own error right.
    fn better(config: &HvpConfig, scheme: Scheme, h: f64) -> (Tried, Option<(Scheme, f64)>) {
        let mut host = Square(Tensor::from_slice(&[0.6, -0.8]));
        let layout = Layout::new(&host, None).unwrap();
        let (mut calibration, never) = (Calibration::default(), Interrupter::default());
        let v = Tensor::from_slice(&[1.0, 0.0]);
        let mut w = v.zeros_like();
        let start = Start { vector: &v, spare: None };
        let mut operator =
            FiniteDifference::new(&mut host, &layout, config, &mut calibration, &never, start, &mut w)
                .unwrap();
        (operator.noise, operator.range) = (NOISE, StepRange::new(1.0, 2.0_f64.powi(-24)));
        let (error, parity) = (CURVATURE.error(scheme, NOISE, h), CURVATURE.parity * h);
        let measured = Measured {
            realised: h,
            scale: 1.0,
            odd: CURVATURE.norm * h,
            even: None,
            even_along: 0.0,
            truncation: 0.0,
            alpha: 0.0,
            rounding: 0.0,
        };
        let record = ProductRecord { scheme, step: h, error, parity, rounding: 0.0, given_up: 0 };
        let tried = Tried { measured, record, curvature: CURVATURE, error };
        let better = operator.better(&tried);
        (tried, better)
    }

    fn central(max_relative_error: f64) -> HvpConfig {
        HvpConfig { difference: Difference::Central, max_relative_error, ..HvpConfig::default() }
    }

    #[test]
    fn a_product_that_is_good_enough_is_not_computed_again_however_much_better_it_could_be() {
        let best = CURVATURE.best_step(Scheme::Central, NOISE);
        let (tried, better) = better(&central(0.02), Scheme::Central, best / 20.0);
        assert!(tried.error < 0.02 && tried.error > 5.0 * CURVATURE.error(Scheme::Central, NOISE, best));
        assert_eq!(better, None);
    }

    #[test]
    fn one_beyond_the_limit_is_computed_again_only_where_another_step_is_twice_as_good() {
        let best = CURVATURE.best_step(Scheme::Central, NOISE);
        let least = CURVATURE.error(Scheme::Central, NOISE, best);
        let mut counts = [0, 0];
        for power in -12..=12 {
            let h = best * 2.0_f64.powf(f64::from(power) / 4.0);
            let (tried, found) = better(&central(1e-9), Scheme::Central, h);
            let gain = tried.error / least;
            // Steps are powers of √2, so that the best of them is not quite the best.
            match found {
                None => assert!(gain < 2.2, "h = {h:e}: {gain} times better, and not computed again"),
                Some((scheme, next)) => {
                    assert!(gain >= 2.0, "h = {h:e}: only {gain} times better");
                    assert_eq!(scheme, Scheme::Central);
                    assert!((0.8..1.25).contains(&(next / best)), "h = {h:e}: {next:e} for {best:e}");
                    assert!(CURVATURE.error(scheme, NOISE, next) <= 0.5 * tried.error);
                }
            }
            counts[usize::from(found.is_some())] += 1;
        }
        assert!(counts.iter().all(|count| *count >= 5), "{counts:?}");
    }

    /// Beyond eight times the step just used its error is a guess.
    #[test]
    fn a_step_grows_by_no_more_than_a_factor_of_8_at_a_time() {
        let best = CURVATURE.best_step(Scheme::Central, NOISE);
        let (tried, found) = better(&central(1e-9), Scheme::Central, best / 1000.0);
        let (_, next) = found.unwrap();
        let growth = next / tried.record.step;
        assert!((6.0..=8.0 * 1.2).contains(&growth), "{growth}");
    }

    /// p² is trusted up to p = 0.05: beyond, terms of higher order may add to it.
    #[test]
    fn a_parity_ratio_that_predicts_too_little_is_a_reason_too() {
        let (tried, found) = better(&central(0.02), Scheme::Central, 0.06);
        assert!(tried.error < 0.02 && tried.record.parity > TRUSTED_PARITY);
        assert!(found.is_some());
    }

    #[test]
    fn forward_gives_way_to_central_where_the_user_left_the_choice() {
        let h = CURVATURE.best_step(Scheme::Forward, NOISE);
        let of = |difference| better(&HvpConfig { difference, ..central(1e-9) }, Scheme::Forward, h).1;
        assert_eq!(of(Difference::Auto).unwrap().0, Scheme::Central);
        assert_eq!(of(Difference::Forward), None);
    }

    #[test]
    fn a_fixed_step_is_the_users() {
        for step_size in [StepSize::Absolute(1.0), StepSize::Relative(1.0)] {
            let (tried, found) = better(&HvpConfig { step_size, ..central(1e-9) }, Scheme::Central, 0.1);
            assert!(tried.error > 1e-3);
            assert_eq!(found, None);
        }
    }
}
