//! The root of c ↦ L(θ + cu) − L(θ) other than 0, from a few values.
//!
//! φ(c) = (L(θ + cu) − L(θ)) / c is gᵀu + c uᵀHu/2 + O(c²): on a quadratic a line, so that two values tell its root. The search
//! takes secants of φ, each aimed a little beyond the root so that it becomes the other end of the bracket, farther where the
//! last one missed, and halves the bracket's logarithm where three in a row have narrowed it by less than half: never much worse than bisection.

/// The first multiple ever tried: the update itself.
pub(super) const FIRST: f64 = 1.0;

/// How far the second value is from a first one that the last search left, and from one that nothing is known of.
const NEAR: f64 = 1.1;
const FAR: f64 = 2.0;

/// How far one value may be from the one before it while the root is on neither side of one.
const LEAP: f64 = 8.0;

/// How much farther beyond the root a secant is aimed for each one before it that fell on the wrong side of it, as all do of
/// a φ that is curved; and the number of these after which the bracket is halved.
const MISSED: f64 = 4.0;
const GIVEN_UP: u32 = 3;

/// Multiples beyond these say nothing of a step.
const RANGE: std::ops::RangeInclusive<f64> = 9.5e-7..=1_048_576.0;

/// A multiple and φ there.
type Value = (f64, f64);

/// The search for one root.
#[derive(Clone, Debug)]
pub(super) struct Search {
    values: Vec<Value>,
    lower: Option<Value>,
    upper: Option<Value>,
    start: f64,
    spread: f64,
    tolerance: f64,
    /// How many values in a row have narrowed the bracket by less than half.
    slow: u32,
}

impl Search {
    /// From the multiple that was found last, if any, to a bracket of relative width `tolerance`.
    pub(super) fn new(last: Option<f64>, tolerance: f64) -> Self {
        let last = last.filter(|last| RANGE.contains(last));
        let (start, spread) = last.map_or((FIRST, FAR), |last| (last, NEAR));
        Self { values: Vec::new(), lower: None, upper: None, start, spread, tolerance, slow: 0 }
    }

    /// The multiple at which the loss is wanted next; `None` where the bracket is narrow enough, or the range at its end.
    pub(super) fn next(&self) -> Option<f64> {
        // Two values within a third of the tolerance of a root leave a bracket within it. On the way to a bracket secants may
        // fall short again and again: each goes on by some factor at least.
        let beyond = 1.0 + self.tolerance / 3.0 * MISSED.powi(self.slow as i32);
        let next = match (self.lower, self.upper) {
            (None, None) => self.start,
            (Some((below, _)), None) => {
                let aim =
                    self.secant(below, LEAP * below).map(|root| (root * beyond).max(below * self.spread));
                aim.unwrap_or_else(|| below * self.step_out())
            }
            (None, Some((above, _))) => {
                let aim =
                    self.secant(above / LEAP, above).map(|root| (root / beyond).min(above / self.spread));
                aim.unwrap_or_else(|| above / self.step_out())
            }
            (Some((below, _)), Some((above, _))) => {
                if above <= below * (1.0 + self.tolerance) {
                    return None;
                }
                let middle = (below * above).sqrt();
                let aim = self
                    .secant(below, above)
                    .map(|root| if root * root < below * above { root * beyond } else { root / beyond });
                aim.filter(|aim| self.slow < GIVEN_UP && *aim > below && *aim < above).unwrap_or(middle)
            }
        };
        RANGE.contains(&next).then_some(next)
    }

    /// How far to go on while nothing tells of a root: more each time.
    fn step_out(&self) -> f64 {
        if self.values.len() < 2 { self.spread } else { LEAP }
    }

    /// Where the line through φ at two values is 0, if that is strictly between these: of the ends of the bracket, or else of
    /// the last two.
    fn secant(&self, from: f64, to: f64) -> Option<f64> {
        let ((a, at_a), (b, at_b)) = match (self.lower, self.upper, &self.values[..]) {
            (Some(lower), Some(upper), _) => (lower, upper),
            (_, _, [.., before, last]) => (*before, *last),
            _ => return None,
        };
        let slope = (at_b - at_a) / (b - a);
        let root = b - at_b / slope;
        // A slope that falls has its root where the loss begins to fall, not where it begins to rise.
        (slope > 0.0 && root >= from && root <= to).then_some(root)
    }

    /// L(θ + cu) − L(θ) at the multiple c. What is not a number counts as a rise: the loss has gone out of its range.
    pub(super) fn tell(&mut self, multiple: f64, change: f64) {
        let value = (multiple, if change.is_nan() { f64::INFINITY } else { change / multiple });
        let before = self.log_width();
        if value.1 > 0.0 {
            self.upper = Some(value);
        } else {
            self.lower = Some(value);
        }
        self.values.push(value);
        let slow = before.zip(self.log_width()).is_some_and(|(before, now)| now > 0.5 * before);
        self.slow = if slow && self.slow < GIVEN_UP { self.slow + 1 } else { 0 };
    }

    fn log_width(&self) -> Option<f64> {
        let ((below, _), (above, _)) = self.lower.zip(self.upper)?;
        Some((above / below).ln())
    }

    pub(super) fn lower(&self) -> Option<f64> {
        self.lower.map(|(multiple, _)| multiple)
    }

    pub(super) fn upper(&self) -> Option<f64> {
        self.upper.map(|(multiple, _)| multiple)
    }

    /// The best guess within the bracket, if there is one.
    pub(super) fn multiple(&self) -> Option<f64> {
        let (below, above) = self.lower().zip(self.upper())?;
        Some(self.secant(below, above).unwrap_or_else(|| (below * above).sqrt()))
    }

    /// Where the next search had better begin.
    pub(super) fn last(&self) -> Option<f64> {
        self.multiple().or_else(|| self.values.last().map(|(multiple, _)| *multiple))
    }

    /// What an error of the loss's differences moves the root by: `noise` over the slope of the change there, cφ′(c), taken
    /// from the widest pair of finite values.
    pub(super) fn error_of(&self, multiple: f64, noise: f64) -> f64 {
        let finite = || self.values.iter().filter(|(_, slope)| slope.is_finite());
        let least = finite().copied().reduce(|a, b| if b.0 < a.0 { b } else { a });
        let most = finite().copied().reduce(|a, b| if b.0 > a.0 { b } else { a });
        match least.zip(most) {
            Some(((a, at_a), (b, at_b))) if b > a && at_b > at_a => {
                noise / (multiple * (at_b - at_a) / (b - a))
            }
            _ => f64::INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `passes` values find, that at 0 being one.
    fn run(last: Option<f64>, passes: usize, change: impl Fn(f64) -> f64) -> Search {
        let mut search = Search::new(last, 0.02);
        for _ in 1..passes {
            let Some(multiple) = search.next() else { break };
            search.tell(multiple, change(multiple));
        }
        search
    }

    fn check(search: &Search, root: f64, width: f64) -> Result<(), TestCaseError> {
        let (lower, upper) = (search.lower().unwrap_or(0.0), search.upper().unwrap_or(f64::INFINITY));
        prop_assert!(lower <= root && root <= upper, "{root} not in [{lower}, {upper}]: {search:?}");
        prop_assert!(upper / lower <= 1.0 + width, "[{lower}, {upper}] for {root}: {search:?}");
        Ok(())
    }

    proptest! {
        /// c = −2s/k, whatever the scales: to the tolerance in eight passes from a cold start, and to rounding by the secant.
        #[test]
        fn a_quadratic_s_root_is_found_in_eight_passes(
            root in -5.0_f64..5.0, curvature in -12.0_f64..12.0,
        ) {
            let (root, curvature) = (root.exp(), curvature.exp());
            let search = run(None, 8, |c| 0.5 * curvature * c * (c - root));
            check(&search, root, 0.02 + 1e-9)?;
            let found = search.multiple().unwrap_or(0.0);
            prop_assert!((found / root - 1.0).abs() < 1e-9, "{found} for {root}");
        }

        /// From the last root, which has moved by up to a third: in seven passes, also where the loss is no quadratic.
        #[test]
        fn from_the_last_root_it_is_found_again(
            root in 0.05_f64..20.0, moved in 0.75_f64..1.35, cubic in -0.3_f64..2.0, quartic in 0.0_f64..2.0,
        ) {
            // (x − 1)(1 + cubic·x + quartic·x²)·x with x = c/root: rises through 1, and not before.
            let change = |c: f64| {
                let x = c / root;
                x * (x - 1.0) * (1.0 + cubic * x + quartic * x * x)
            };
            prop_assume!((0..=400).all(|i| {
                let x = f64::from(i) * 0.025;
                1.0 + cubic * x + quartic * x * x > 0.0
            }));
            check(&run(Some(root * moved), 7, change), root, 0.05)?;
        }

        /// Whatever the loss does: values are positive, finite, never tried twice, and the bracket holds a change of sign.
        #[test]
        fn whatever_the_values_the_bracket_is_one(
            changes in prop::collection::vec(prop_oneof![-1.0_f64..1.0, Just(f64::NAN), Just(f64::INFINITY), Just(0.0)], 7),
            last in prop::option::of(prop_oneof![1e-9_f64..1e9, Just(f64::NAN), Just(0.0)]),
        ) {
            let mut search = Search::new(last, 0.02);
            let mut tried: Vec<f64> = Vec::new();
            for change in changes {
                let Some(multiple) = search.next() else { break };
                prop_assert!(multiple > 0.0 && multiple.is_finite() && !tried.contains(&multiple), "{search:?}");
                tried.push(multiple);
                search.tell(multiple, change);
            }
            if let Some((lower, upper)) = search.lower().zip(search.upper()) {
                prop_assert!(lower < upper, "{search:?}");
                let found = search.multiple().unwrap_or(0.0);
                prop_assert!((lower..=upper).contains(&found), "{search:?}");
            }
        }
    }

    #[test]
    fn a_loss_that_always_rises_or_always_falls_has_one_end_only_and_the_next_search_goes_on_from_there() {
        let rises = run(None, 8, |c| c);
        assert!(rises.lower().is_none() && rises.multiple().is_none());
        assert!(rises.upper().unwrap() < 1e-3 && rises.last() == rises.upper());
        let falls = run(None, 8, |c| -c);
        assert!(falls.upper().is_none() && falls.lower().unwrap() > 1e3);
        // At the end of the range it begins again.
        let mut last = None;
        for _ in 0..20 {
            let search = run(last, 8, |c| c);
            last = search.last();
            assert!(last.is_none_or(|last| last > 1e-8), "{last:?}");
        }
        assert_eq!(Search::new(Some(1e-9), 0.02).next(), Some(FIRST));
    }

    /// A cliff: the loss overflows beyond it, so that no secant helps.
    #[test]
    fn beyond_a_cliff_the_bracket_is_halved() {
        let search = run(None, 8, |c| if c > 3.7 { f64::NAN } else { -c });
        let (lower, upper) = (search.lower().unwrap(), search.upper().unwrap());
        assert!(lower <= 3.7 && 3.7 < upper && upper / lower < 1.2, "[{lower}, {upper}]");
    }

    #[test]
    fn the_loss_s_rounding_moves_the_root_by_what_a_root_of_the_disturbed_loss_says() {
        let (slope, curvature, noise) = (-2.0, 8.0, 1e-4);
        let search = run(None, 8, |c| slope * c + 0.5 * curvature * c * c);
        // slope·c + curvature·c²/2 = noise.
        let disturbed = (-slope + (slope * slope + 2.0 * curvature * noise).sqrt()) / curvature;
        let found = search.multiple().unwrap();
        let expected = disturbed - found;
        assert!(
            (search.error_of(found, noise) / expected - 1.0).abs() < 1e-3,
            "{expected:e} {found} {search:?}"
        );
    }
}
