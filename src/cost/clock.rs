//! How long a stretch of a probe took by itself.

use std::time::{Duration, Instant};

/// A moment, and what had been spent until then in parts that are measured where they happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) gradients: Duration,
    pub(crate) all_reduces: Duration,
    pub(crate) products: Duration,
}

impl Moment {
    /// The time from here to `later` that was spent in none of them.
    pub(crate) fn own_until(self, later: Self) -> Duration {
        let elsewhere = [
            later.gradients.saturating_sub(self.gradients),
            later.all_reduces.saturating_sub(self.all_reduces),
            later.products.saturating_sub(self.products),
        ];
        elsewhere.into_iter().fold(later.at.saturating_duration_since(self.at), Duration::saturating_sub)
    }
}

/// What measuring the noise took, and what of it was spent in gradients and all_reduces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Region {
    pub(crate) whole: Duration,
    pub(crate) gradients: Duration,
    pub(crate) all_reduces: Duration,
}

impl Region {
    pub(crate) fn between(from: Moment, to: Moment) -> Self {
        Self {
            whole: to.at.saturating_duration_since(from.at),
            gradients: to.gradients.saturating_sub(from.gradients),
            all_reduces: to.all_reduces.saturating_sub(from.all_reduces),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_elsewhere_is_taken_off() {
        let ms = Duration::from_millis;
        let from =
            Moment { at: Instant::now(), gradients: ms(5), all_reduces: ms(1), products: Duration::ZERO };
        let to = Moment { at: from.at + ms(100), gradients: ms(65), all_reduces: ms(11), products: ms(20) };
        assert_eq!(from.own_until(to), ms(10));
        assert_eq!(to.own_until(from), Duration::ZERO, "never negative");
        let region = Region::between(from, to);
        assert_eq!((region.whole, region.gradients, region.all_reduces), (ms(100), ms(60), ms(10)));
    }
}
