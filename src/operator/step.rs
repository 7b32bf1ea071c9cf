//! Which step h suits a vector, and the error to expect from it.
//!
//! For a unit vector v let o = h‖Hv‖ be the change of the gradient over a step and p = p₁h the share of
//! it that is even in h: half the curvature's own change. With η the noise of one gradient the relative
//! errors of a product are about
//!
//! | | error | smallest at |
//! |---|---|---|
//! | forward | p + √2·η/o | h² = √2·η / (‖Hv‖·p₁) |
//! | central | p² + η/(√2·o) | h³ = η / (2√2·‖Hv‖·p₁²) |
//! | central4 | 4p⁴ + (√130/12)·η/o | h⁵ = √130·η / (192·‖Hv‖·p₁⁴) |
//!
//! Steps are powers of √2, and the noise that enters their choice is a power of four: a difference in
//! rounding between one number of ranks and another then leaves the step, and with it the result, as it
//! was. The optimum is broad: both together cost at most a fifth of the error.

use crate::operator::scheme::Scheme;

/// What is known of the curvature along a vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curvature {
    /// ‖Hv‖.
    pub norm: f64,
    /// p₁, the parity ratio per unit of h.
    pub parity: f64,
}

impl Curvature {
    /// The same for a vector along which ‖Hv‖ is `norm`. The parity ratio follows: where the curvature is
    /// larger, it also changes faster, so that equally good steps change the gradient by equal amounts.
    #[must_use]
    pub fn rescaled(self, norm: f64) -> Self {
        if self.norm > 0.0 && norm > 0.0 {
            Self { norm, parity: self.parity * norm / self.norm }
        } else {
            self
        }
    }

    /// The predicted relative error of a product with step h.
    #[must_use]
    pub fn error(self, scheme: Scheme, noise: f64, h: f64) -> f64 {
        scheme.truncation(self.parity * h) + ratio(scheme.noise_factor() * noise, self.norm * h)
    }

    /// The step with the smallest [`error`](Self::error); infinite where nothing bounds it.
    #[must_use]
    pub fn best_step(self, scheme: Scheme, noise: f64) -> f64 {
        let order = f64::from(scheme.order());
        let noise = scheme.noise_factor() * noise;
        // The derivative of c·hᵏ + a/h vanishes where hᵏ⁺¹ = a/(k·c).
        ratio(noise, order * self.norm * scheme.truncation(self.parity)).powf(1.0 / (order + 1.0))
    }
}

/// a/b, with 0/0 = 0: no noise, no error.
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { a / b }
}

/// The nearest power of `base`, which must be larger than 1.
#[must_use]
pub fn nearest_power(value: f64, base: f64) -> f64 {
    if value.is_finite() && value > 0.0 { base.powi((value.ln() / base.ln()).round() as i32) } else { value }
}

/// The smallest step, as a share of the distance by which rounding moves all of θ.
const BELOW_ROUNDING: f64 = 1e-4;

/// The steps that are allowed for a model: a power of √2 up to its size, and down to where rounding of θ leaves hardly
/// anything of a step. What it leaves is the realised step, which quotients divide by; along an outlier the best step may
/// well be a thousandth of rounding, as it is for bf16's of the top eigenvector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRange {
    smallest: f64,
    rounding: f64,
    largest: f64,
    first: f64,
}

impl StepRange {
    /// `parameter_norm` is ‖θ‖, `roundoff` that of the parameters.
    ///
    /// A first, random vector starts at 3·10⁻⁴‖θ‖ in f32; the cube root of the roundoff carries that
    /// over to other types, as the optimum of central differences goes with the cube root of the noise.
    #[must_use]
    pub fn new(parameter_norm: f64, roundoff: f64) -> Self {
        let scale = if parameter_norm > 0.0 { parameter_norm } else { 1.0 };
        let single = f64::from(f32::EPSILON) / 2.0;
        Self {
            smallest: BELOW_ROUNDING * roundoff * scale,
            rounding: roundoff * scale,
            largest: 0.1 * scale,
            first: 3e-4 * (roundoff / single).cbrt() * scale,
        }
    }

    /// The step to start from when nothing is known.
    #[must_use]
    pub fn first(self) -> f64 {
        self.fit(self.first)
    }

    /// The nearest allowed step that is not below the rounding of θ: at such points nearly all parameters have moved.
    #[must_use]
    pub fn fit_above_rounding(self, h: f64) -> f64 {
        self.fit(h.max(self.rounding))
    }

    /// Whether a step may have failed to move any parameter, because it is below their rounding.
    #[must_use]
    pub fn is_below_rounding(self, h: f64) -> bool {
        h < 0.5 * self.rounding
    }

    /// The nearest allowed step. None is too small where there is no noise: that is rounding's.
    #[must_use]
    pub fn fit(self, h: f64) -> f64 {
        let h = if h.is_nan() { self.first } else { h };
        let h = if h == 0.0 { self.rounding } else { h };
        nearest_power(h.clamp(self.smallest, self.largest), std::f64::consts::SQRT_2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a search over steps.
        #[test]
        fn the_closed_forms_minimise_the_predicted_errors(
            norm in 1e-6_f64..1e6, parity in 1e-4_f64..1e3, noise in 1e-16_f64..1e-2,
        ) {
            let curvature = Curvature { norm, parity };
            let around = |best: f64| (-200..=200).map(move |k| best * 1.05_f64.powi(k));
            for scheme in [Scheme::Forward, Scheme::Central, Scheme::Central4] {
                let best = curvature.best_step(scheme, noise);
                let error = |h| curvature.error(scheme, noise, h);
                let found = around(best).map(error).fold(f64::INFINITY, f64::min);
                prop_assert!(error(best) <= found * (1.0 + 1e-9));
            }
        }

        #[test]
        fn a_fitted_step_is_allowed_and_rounding_does_not_change_it(
            norm in 1e-3_f64..1e6, h in prop::num::f64::ANY,
        ) {
            let range = StepRange::new(norm, 6e-8);
            let fitted = range.fit(h);
            prop_assert!((2.0 * fitted.log2()).fract().abs() < 1e-9 || (2.0 * fitted.log2()).fract().abs() > 1.0 - 1e-9);
            prop_assert!(fitted >= 5e-12 * norm && fitted <= 0.12 * norm);
            prop_assert!(range.fit_above_rounding(h) >= 5e-8 * norm);
            prop_assert_eq!(range.fit(fitted * (1.0 + 1e-3)), fitted);
        }
    }

    /// Up to the rounding of steps to powers of √2.
    #[test]
    fn a_first_step_in_f32_is_3e_4_of_the_parameters_norm_and_follows_the_cube_root_of_the_roundoff() {
        let single = 2.0_f64.powi(-24);
        for norm in [1e-3, 1.0, 37.0, 2120.0, 1e6] {
            for (roundoff, share) in
                [(single, 3e-4), (single / 2.0_f64.powi(27), 3e-4 / 512.0), (8.0 * single, 6e-4)]
            {
                let ratio = StepRange::new(norm, roundoff).first() / (share * norm);
                let width = 2.0_f64.powf(0.25) * (1.0 + 1e-9);
                assert!((1.0 / width..=width).contains(&ratio), "‖θ‖ = {norm}, u = {roundoff:e}: {ratio}");
            }
        }
        // Parameters that are all 0 have no size of their own.
        assert_eq!(StepRange::new(0.0, single).first(), StepRange::new(1.0, single).first());
    }

    #[test]
    fn no_noise_and_no_curvature_are_no_error() {
        let flat = Curvature { norm: 0.0, parity: 0.0 };
        assert_eq!(flat.error(Scheme::Central, 0.0, 1.0), 0.0);
        assert_eq!(flat.best_step(Scheme::Forward, 0.0), 0.0);
        assert_eq!(flat.rescaled(3.0), flat);
        assert!(flat.best_step(Scheme::Central, 1.0).is_infinite());
    }
}
