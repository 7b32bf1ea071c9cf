//! When a difference is one.
//!
//! Two estimates: t = (b − a) / √(s_a² + s_b²) against the two-sided 95 % quantile of Student's distribution, with Welch's
//! degrees of freedom (s_a² + s_b²)² / (s_a⁴/(P_a − 1) + s_b⁴/(P_b − 1)) (Welch, Biometrika 34 (1947) 28–35), P the number of
//! probe vectors. With two vectors on each side that is 4.3, not 2: standard errors of so few are themselves uncertain.
//!
//! Two extreme Ritz values: an eigenvalue lies within the residual of each, so that they differ for certain where these
//! intervals are disjoint.

use serde::Serialize;

/// What can be said of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Beyond what the errors explain.
    Differs,
    /// The errors explain it.
    WithinErrors,
    /// No error is known, of one probe vector for instance.
    NoErrorKnown,
    /// They are not of the same thing.
    NotComparable,
    /// One of them has no value.
    Missing,
}

/// A difference, what it is measured by, and how many of these are needed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Significance {
    /// The combined standard error, or the sum of the residuals.
    pub error: Option<f64>,
    /// |difference| over it.
    pub ratio: Option<f64>,
    /// Where a difference begins.
    pub critical: Option<f64>,
    pub verdict: Verdict,
}

impl Significance {
    pub const NO_ERROR: Self =
        Self { error: None, ratio: None, critical: None, verdict: Verdict::NoErrorKnown };

    /// Of estimates with standard errors over so many vectors.
    pub fn of_estimates(difference: f64, errors: [Option<f64>; 2], vectors: [usize; 2]) -> Self {
        let [Some(a), Some(b)] = errors else { return Self::NO_ERROR };
        let term = |error: f64, vectors: usize| error.powi(4) / (vectors.max(2) - 1) as f64;
        let square = a * a + b * b;
        let freedom = square * square / (term(a, vectors[0]) + term(b, vectors[1]));
        // Without any spread there is no freedom to lose.
        Self::beyond(
            difference,
            square.sqrt(),
            if freedom.is_finite() { quantile(freedom) } else { quantile(1.0) },
        )
    }

    /// Of values with bounds of their errors.
    pub fn of_bounds(difference: f64, bounds: [f64; 2]) -> Self {
        Self::beyond(difference, bounds[0] + bounds[1], 1.0)
    }

    fn beyond(difference: f64, error: f64, critical: f64) -> Self {
        let differs = difference.abs() > critical * error;
        let verdict = if differs { Verdict::Differs } else { Verdict::WithinErrors };
        let ratio = Some(difference.abs() / error).filter(|ratio| ratio.is_finite());
        Self { error: Some(error), ratio, critical: Some(critical), verdict }
    }
}

/// The 97.5 % quantile of Student's t with 1, 2, … degrees of freedom.
const QUANTILES: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// For the degrees of freedom rounded down, which is on the safe side (but 1.9999 is 2); beyond 30 it is that of 30.
fn quantile(freedom: f64) -> f64 {
    QUANTILES[((freedom + 1e-3).clamp(1.0, QUANTILES.len() as f64) as usize) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share within ±t of Student's distribution, by integration of its density with t = √f tan u.
    fn within(t: f64, freedom: f64) -> f64 {
        let share = |to: f64| -> f64 {
            let steps = 20_000;
            let height = |i: f64| (to * (i + 0.5) / f64::from(steps)).cos().powf(freedom - 1.0);
            (0..steps).map(|i| height(f64::from(i))).sum::<f64>() * to / f64::from(steps)
        };
        share((t / freedom.sqrt()).atan()) / share(std::f64::consts::FRAC_PI_2)
    }

    #[test]
    fn quantiles_leave_five_per_cent_outside() {
        for (index, t) in QUANTILES.iter().enumerate() {
            let inside = within(*t, index as f64 + 1.0);
            assert!((inside - 0.95).abs() < 2e-4, "{} degrees of freedom: {inside}", index + 1);
        }
    }

    #[test]
    fn few_probe_vectors_ask_for_a_larger_difference() {
        let of = |difference, vectors| {
            Significance::of_estimates(difference, [Some(1.0), Some(1.0)], [vectors; 2])
        };
        assert_eq!(of(4.0, 2).critical, Some(4.303));
        assert_eq!((of(4.0, 2).verdict, of(4.0, 16).verdict), (Verdict::WithinErrors, Verdict::Differs));
        assert_eq!(of(-7.0, 2).verdict, Verdict::Differs);
        let nearly = Significance::of_estimates(4.0, [Some(1.0), Some(1.0 + 1e-7)], [2; 2]);
        assert_eq!(nearly.critical, Some(4.303));
        // One side's error dominates: its freedom counts.
        let lopsided = Significance::of_estimates(5.0, [Some(1.0), Some(1e-6)], [2, 2]);
        assert_eq!((lopsided.critical, lopsided.verdict), (Some(12.706), Verdict::WithinErrors));
        assert_eq!(Significance::of_estimates(5.0, [Some(1.0), None], [2, 1]), Significance::NO_ERROR);
    }

    #[test]
    fn exact_values_differ_by_whatever_they_differ() {
        let of = |difference| Significance::of_estimates(difference, [Some(0.0), Some(0.0)], [2, 2]);
        assert_eq!((of(0.0).verdict, of(1e-300).verdict), (Verdict::WithinErrors, Verdict::Differs));
        assert_eq!(of(1.0).ratio, None, "no ratio to nothing");
    }

    #[test]
    fn residuals_that_overlap_are_no_difference() {
        assert_eq!(Significance::of_bounds(0.3, [0.1, 0.25]).verdict, Verdict::WithinErrors);
        let apart = Significance::of_bounds(-0.7, [0.1, 0.25]);
        assert_eq!((apart.verdict, apart.ratio), (Verdict::Differs, Some(0.7 / 0.35)));
    }
}
