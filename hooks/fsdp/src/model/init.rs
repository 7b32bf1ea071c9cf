//! Initial values as a function of (seed, parameter name, element index).
//!
//! A rank computes its own slice and nothing else, and the model starts with the same bits on any
//! number of ranks.

use serde::{Deserialize, Serialize};

/// The distribution of a parameter's initial values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Init {
    /// All ones: gains of norms.
    Ones,
    /// All zeros: biases.
    Zeros,
    /// Independent normal values with mean 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
}

impl Init {
    /// The initial value of element `index` (row-major) of the parameter `name`.
    #[must_use]
    pub fn value(&self, seed: u64, name: &str, index: u64) -> f64 {
        match self {
            Self::Ones => 1.0,
            Self::Zeros => 0.0,
            Self::Normal { std } => std * standard_normal(stream(seed, name), index),
        }
    }

    /// The initial values of elements `start..start + count`.
    #[must_use]
    pub fn values(&self, seed: u64, name: &str, start: u64, count: usize) -> Vec<f64> {
        match self {
            Self::Ones => vec![1.0; count],
            Self::Zeros => vec![0.0; count],
            Self::Normal { std } => {
                let stream = stream(seed, name);
                (0..count as u64).map(|i| std * standard_normal(stream, start + i)).collect()
            }
        }
    }
}

/// Element `index` of the stream of standard normal values numbered `stream`.
///
/// Box–Muller on two outputs of SplitMix64 (Steele, Lea, Flood, *Fast splittable pseudorandom number
/// generators*, OOPSLA 2014), which is a hash of a counter and so can be entered anywhere.
#[must_use]
pub fn standard_normal(stream: u64, index: u64) -> f64 {
    let uniform = |counter: u64| (hash(stream, counter) >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
    let (u, v) = (uniform(2 * index), uniform(2 * index + 1));
    // 1 - u is in (0, 1], so the logarithm is finite.
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Output number `counter` of SplitMix64 seeded with `seed`.
pub(crate) fn hash(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The stream of a parameter: FNV-1a of its name, mixed with the seed.
fn stream(seed: u64, name: &str) -> u64 {
    let name = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash(hash(seed, 0), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_values_have_the_moments_of_a_normal_distribution() {
        let n = 200_000;
        let values = Init::Normal { std: 1.0 }.values(7, "model.embed_tokens.weight", 0, n);
        let moment = |k: i32| values.iter().map(|x| x.powi(k)).sum::<f64>() / n as f64;
        // Standard errors: 0.0022, 0.0032, 0.0087 (E x⁶ = 15), 0.022 (E x⁸ = 105).
        assert!(moment(1).abs() < 0.01, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.015, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.04, "third moment {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.1, "fourth moment {}", moment(4));
    }

    #[test]
    fn a_slice_has_the_values_of_the_whole() {
        let init = Init::Normal { std: 0.02 };
        let whole = init.values(1, "w", 0, 100);
        assert_eq!(whole[37..59], init.values(1, "w", 37, 22)[..]);
        assert_eq!(whole[99], init.value(1, "w", 99));
        assert_ne!(whole, init.values(2, "w", 0, 100));
        assert_ne!(whole, init.values(1, "v", 0, 100));
    }
}
