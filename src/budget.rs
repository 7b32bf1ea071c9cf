//! What a probe may cost.

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Limits beyond which a probe that is due is skipped, with the reason in the log. They hold for `[track]` and
/// `[sharpness]`, too, for each on its own.
///
/// ```
/// use hessian_probe::ProbeConfig;
///
/// let config = ProbeConfig::from_toml_str("[budget]\nmax_overhead = 0.05\nmax_memory = \"2GB\"")?;
/// assert_eq!(config.budget.max_memory.map(|bytes| bytes.0), Some(2_000_000_000));
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// The time of a probe may be at most this share of the training time since the last one, taking it to be
    /// as long as the last one was. The first probe of a session is not limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_overhead: Option<f64>,
    /// The memory that a probe may take on each rank: bytes, or a string like `"2GB"`, `"512MiB"`. Counted are the
    /// vectors of the probe and, under `hvp.precision = "full"`, the copies in f32 of parameters in less and of their
    /// gradient that the host makes for it; not the activations of a gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Bytes>,
}

impl BudgetConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        match self.max_overhead {
            Some(share) if !(share.is_finite() && share > 0.0) => Err(Error::config(
                "budget.max_overhead",
                format!("{share} is not a positive share of training time"),
            )),
            _ => Ok(()),
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a number of bytes: a whole number, or a string like \"2GB\", \"512MiB\"")
        };
        let text = text.trim();
        let (number, unit) = UNITS
            .iter()
            .find_map(|&(unit, bytes)| text.strip_suffix(unit).map(|number| (number.trim(), bytes)))
            .unwrap_or((text, 1));
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = number * unit as f64;
        // Exact below 2^53, which no memory reaches.
        if bytes.is_finite() && (0.0..=9_007_199_254_740_992.0).contains(&bytes) {
            Ok(Self(bytes as u64))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)]
            .into_iter()
            .find(|&(_, size)| self.0 as f64 >= size)
            .unwrap_or(("B", 1.0));
        let decimals = if size > 1.0 { 2 } else { 0 };
        write!(f, "{:.decimals$} {unit}", self.0 as f64 / size)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer).map_err(|_| {
            serde::de::Error::custom("expected a number of bytes or a string like \"2GB\", \"512MiB\"")
        })? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// The clock by which overhead is judged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overhead {
    last: Option<(Instant, f64)>,
}

impl Overhead {
    /// A probe that took `seconds` has just ended.
    pub(crate) fn record(&mut self, seconds: f64) {
        self.last = Some((Instant::now(), seconds));
    }

    /// The seconds of training since the last probe.
    pub(crate) fn training_seconds(&self) -> Option<f64> {
        self.last.map(|(ended, _)| ended.elapsed().as_secs_f64())
    }

    /// The share of the training time since the last probe that another one would take, on this rank.
    pub(crate) fn expected(&self) -> f64 {
        self.last.map_or(0.0, |(ended, seconds)| share(seconds, ended.elapsed()))
    }
}

fn share(seconds: f64, training: Duration) -> f64 {
    seconds / training.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_either_system_of_units() {
        for (text, bytes) in [
            ("2GB", 2_000_000_000),
            ("1.5 GiB", 1_610_612_736),
            ("512MiB", 1 << 29),
            ("10kB", 10_000),
            ("7B", 7),
            ("42", 42),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for bad in ["", "GB", "-1B", "2TB2", "nan", "1e300GB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        assert_eq!(Bytes(1_610_612_736).to_string(), "1.61 GB");
        assert_eq!(Bytes(999).to_string(), "999 B");
    }

    #[test]
    fn overhead_is_the_share_of_the_time_between_probes() {
        assert_eq!(Overhead::default().expected(), 0.0);
        assert!((share(2.0, Duration::from_secs(50)) - 0.04).abs() < 1e-12);
        assert!(share(2.0, Duration::ZERO).is_finite());
    }
}
