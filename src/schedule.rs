//! When to probe.

use crate::error::{Error, Result};
use crate::host::Progress;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A point in, or a length of, training.
///
/// In TOML a number of optimizer steps, or a string: `"500ba"` (batches, that is optimizer steps),
/// `"0.1dur"` (a share of the whole training) or `"1e9tok"` (tokens).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Duration {
    /// Optimizer steps.
    Steps(u64),
    /// A share of the whole training, between 0 and 1; the host must tell its length.
    Share(f64),
    /// Tokens; the host must count them.
    Tokens(u64),
}

impl Duration {
    fn is_zero(self) -> bool {
        match self {
            Self::Steps(steps) => steps == 0,
            Self::Share(share) => share == 0.0,
            Self::Tokens(tokens) => tokens == 0,
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}ba"),
            Self::Share(share) => write!(f, "{share}dur"),
            Self::Tokens(tokens) => write!(f, "{tokens}tok"),
        }
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "`{text}` is not a duration: a number of steps, or a string like \"500ba\", \"0.1dur\", \"1e9tok\""
            )
        };
        let text = text.trim();
        let unit_at =
            ["ba", "dur", "tok"].iter().find_map(|unit| text.strip_suffix(unit).map(|n| (n.trim(), *unit)));
        let (number, unit) = unit_at.unwrap_or((text, "ba"));
        let value: f64 = number.parse().map_err(|_| expected())?;
        if !value.is_finite() || value < 0.0 {
            return Err(expected());
        }
        // Exact up to 2^53, far more steps or tokens than any training has.
        let whole = |what: &str| {
            if value.fract() == 0.0 && value <= 9_007_199_254_740_992.0 {
                Ok(value as u64)
            } else {
                Err(format!("`{text}` is not a whole number of {what}"))
            }
        };
        match unit {
            "dur" if value <= 1.0 => Ok(Self::Share(value)),
            "dur" => Err(format!("`{text}` is more than the whole training (1dur)")),
            "tok" => Ok(Self::Tokens(whole("tokens")?)),
            _ => Ok(Self::Steps(whole("steps")?)),
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Steps(steps) => serializer.serialize_u64(*steps),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Text(String),
        }
        match Written::deserialize(deserializer).map_err(|_| {
            serde::de::Error::custom(
                "expected a number of steps or a string like \"500ba\", \"0.1dur\", \"1e9tok\"",
            )
        })? {
            Written::Number(steps) => u64::try_from(steps)
                .map(Self::Steps)
                .map_err(|_| serde::de::Error::custom(format!("{steps} is negative"))),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// When to probe, as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// A probe every so often, counted from `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// No probe by `every` before this point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Duration>,
    /// No probe by `every` from this point on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Duration>,
    /// Further points at which to probe.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<Duration>,
    /// Whether to probe once more after the last step.
    pub at_end: bool,
}

impl ScheduleConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(every) = self.every
            && every.is_zero()
        {
            return Err(Error::config(
                "schedule.every",
                "must be more than 0; leave it out for no regular probes",
            ));
        }
        Ok(())
    }
}
