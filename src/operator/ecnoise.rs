//! The noise of a function from a table of its differences.
//!
//! ECNoise (Moré & Wild, SIAM J. Sci. Comput. 33 (2011) 1292–1314): a function that is smooth but for noise is
//! sampled at equidistant points. Differences of order k take away a smooth part that is a polynomial of
//! degree below k and leave noise, whose variance they multiply by (2k)!/(k!)²: with γ_k = (k!)²/(2k)! each
//! order gives the estimate σ_k² = γ_k·mean (Δᵏf)². Where successive orders agree, it is the noise.

/// What a table of differences says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Estimate {
    /// The standard deviation of the noise of one value.
    Noise(f64),
    /// More than half of the neighbouring values are equal: the points are too close. Try 100 times the distance.
    TooClose,
    /// The values differ by more than a tenth of the largest, or no two orders agree: the points are too far
    /// apart for the function to be smooth there. Try a hundredth of the distance.
    TooFar,
}

/// Estimates that agree lie within this factor.
const AGREE: f64 = 4.0;
/// Orders that must agree.
const CONSECUTIVE: usize = 3;

/// The noise of a function from its values at equidistant points, of which seven or more are recommended.
///
/// `largest` is max|f|; values may be given up to a constant, so that a large one does not round them.
#[must_use]
pub fn estimate(values: &[f64], largest: f64) -> Estimate {
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
    let equal = values.windows(2).filter(|pair| pair[0] == pair[1]).count();
    if 2 * equal > values.len().saturating_sub(1) {
        return Estimate::TooClose;
    }
    let range = high - low;
    if range.is_nan() || range > 0.1 * largest.abs() {
        return Estimate::TooFar;
    }
    let levels = levels(values);
    let agreeing = levels.windows(CONSECUTIVE).find(|window| {
        let (least, most) = window.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), level| {
            (least.min(level.sigma), most.max(level.sigma))
        });
        most <= AGREE * least && window[0].sign_changes
    });
    agreeing.map_or(Estimate::TooFar, |window| Estimate::Noise(window[0].sigma))
}

struct Level {
    sigma: f64,
    sign_changes: bool,
}

/// One for each order of differences.
fn levels(values: &[f64]) -> Vec<Level> {
    let mut differences = values.to_vec();
    let mut gamma = 1.0;
    (1..values.len())
        .map(|order| {
            differences = differences.windows(2).map(|pair| pair[1] - pair[0]).collect();
            // γ_k = γ_{k−1} · k / (2(2k − 1)).
            let k = order as f64;
            gamma *= k / (2.0 * (2.0 * k - 1.0));
            let squares: f64 = differences.iter().map(|d| d * d).sum();
            Level {
                sigma: (gamma * squares / differences.len() as f64).sqrt(),
                sign_changes: differences.iter().any(|d| *d > 0.0) && differences.iter().any(|d| *d < 0.0),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Uniform in −1..1 by SplitMix64.
    fn uniform(seed: u64, index: u64) -> f64 {
        let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 / 2.0_f64.powi(52) - 1.0
    }

    /// A smooth function with uniform noise of a known standard deviation.
    fn sampled(seed: u64, noise: f64, distance: f64) -> Vec<f64> {
        (0..7)
            .map(|k| {
                let x = k as f64 * distance;
                1.0 + x.sin() + x * x + noise * 3.0_f64.sqrt() * uniform(seed, k)
            })
            .collect()
    }

    #[test]
    fn finds_a_known_noise_within_a_factor_of_four() {
        for noise in [1e-12, 1e-8, 1e-4] {
            let found: Vec<f64> = (0..200)
                .filter_map(|seed| match estimate(&sampled(seed, noise, 1e-2 * noise.sqrt()), 1.0) {
                    Estimate::Noise(sigma) => Some(sigma / noise),
                    _ => None,
                })
                .collect();
            let near = found.iter().filter(|ratio| (0.25..4.0).contains(*ratio)).count();
            assert!(found.len() >= 180, "noise {noise:e}: found for {} of 200", found.len());
            assert!(near as f64 >= 0.97 * found.len() as f64, "noise {noise:e}: {near} of {}", found.len());
        }
    }

    #[test]
    fn says_when_points_are_too_close_or_too_far_apart() {
        assert_eq!(estimate(&[1.0; 7], 1.0), Estimate::TooClose);
        let exponential: Vec<f64> = (0..7).map(|k| f64::from(k).exp()).collect();
        assert_eq!(estimate(&exponential, 400.0), Estimate::TooFar);
        // Smooth without noise: every order is smaller than the one before.
        let smooth: Vec<f64> = (0..7).map(|k| (0.02 * f64::from(k)).exp()).collect();
        assert_eq!(estimate(&smooth, 2.0), Estimate::TooFar);
        // A polynomial but for rounding, which is the noise.
        let parabola: Vec<f64> = (0..7).map(|k| 1.0 + 1e-3 * f64::from(k * k)).collect();
        assert!(matches!(estimate(&parabola, 1.0), Estimate::Noise(sigma) if sigma < 1e-15));
        assert_eq!(estimate(&[f64::NAN; 7], 1.0), Estimate::TooFar);
        assert_ne!(estimate(&[], 1.0), Estimate::Noise(0.0));
    }

    proptest! {
        /// A constant shifts nothing, a factor scales.
        #[test]
        fn does_not_depend_on_a_shift_and_scales(seed in 0_u64..1000, factor in 0.1_f64..10.0) {
            let values = sampled(seed, 1e-6, 1e-5);
            let changed: Vec<f64> = values.iter().map(|value| (value - 1.0) * factor).collect();
            match (estimate(&values, 1.0), estimate(&changed, factor)) {
                (Estimate::Noise(a), Estimate::Noise(b)) => prop_assert!((a * factor - b).abs() <= 1e-6 * b),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }
}
