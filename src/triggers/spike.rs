//! How unusual a loss is among those before it.

/// MAD of a normal distribution is its standard deviation over this.
const NORMAL: f64 = 1.4826;

/// The deviation is at least this share of the median: losses that repeat bit for bit have none.
const FLOOR: f64 = 1e-6;

/// The middle of some losses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Middle {
    pub(super) median: f64,
    /// 1.4826 · MAD.
    pub(super) deviation: f64,
}

impl Middle {
    /// Of finite values; `None` of none.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        let median = median(&mut values)?;
        values.iter_mut().for_each(|value| *value = (*value - median).abs());
        let deviation = NORMAL * self::median(&mut values)?;
        Some(Self { median, deviation: deviation.max(FLOOR * median.abs()).max(f64::MIN_POSITIVE) })
    }

    /// z.
    pub(super) fn score(self, value: f64) -> f64 {
        (value - self.median) / self.deviation
    }
}

/// The mean of the two in the middle where their number is even.
fn median(values: &mut [f64]) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let (_, &mut upper, _) = values.select_nth_unstable_by(values.len() / 2, f64::total_cmp);
    if last % 2 == 0 {
        return Some(upper);
    }
    let lower = values[..values.len() / 2].iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(lower + 0.5 * (upper - lower))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_textbook_s_example() {
        // Iglewicz & Hoaglin's modified scores, with 1.4826 for 1/0.6745: median 3, MAD 1.
        let middle = Middle::of([1.0, 2.0, 3.0, 4.0, 100.0].into_iter()).unwrap();
        assert_eq!(middle, Middle { median: 3.0, deviation: 1.4826 });
        assert!((middle.score(100.0) - 97.0 / 1.4826).abs() < 1e-12);
        let even = Middle::of([1.0, 2.0, 4.0, 8.0].into_iter()).unwrap();
        assert_eq!((even.median, even.deviation), (3.0, 1.4826 * 1.5));
        assert_eq!(Middle::of(std::iter::empty()), None);
    }

    proptest! {
        /// Against sorting, and unmoved by what becomes of the largest values but for their rank.
        #[test]
        fn the_median_is_that_of_the_sorted_values(mut values in prop::collection::vec(-1e3_f64..1e3, 1..40)) {
            let found = Middle::of(values.iter().copied()).unwrap();
            values.sort_by(f64::total_cmp);
            let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
            prop_assert!((found.median - 0.5 * (low + high)).abs() < 1e-9);
            prop_assert!(found.score(found.median + 2.0 * found.deviation) - 2.0 < 1e-6);
        }

        #[test]
        fn a_third_of_the_values_may_be_anything(
            noise in prop::collection::vec(-1.0_f64..1.0, 20), wild in prop::collection::vec(1e3_f64..1e9, 10),
        ) {
            let middle = Middle::of(noise.iter().chain(&wild).copied()).unwrap();
            prop_assert!(middle.median.abs() <= 1.0 && middle.deviation <= 3.0, "{middle:?}");
        }
    }

    #[test]
    fn losses_that_repeat_have_a_deviation_all_the_same() {
        let middle = Middle::of([2.0; 10].into_iter()).unwrap();
        assert!(middle.score(2.1).is_finite() && middle.score(2.1) > 1e3 && middle.score(2.0) == 0.0);
        assert!(Middle::of([0.0; 10].into_iter()).unwrap().score(0.0) == 0.0);
    }
}
