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
///
/// ```
/// use hessian_probe::schedule::Duration;
///
/// assert_eq!("500ba".parse(), Ok(Duration::Steps(500)));
/// assert_eq!("0.1dur".parse(), Ok(Duration::Share(0.1)));
/// assert_eq!("1e9tok".parse(), Ok(Duration::Tokens(1_000_000_000)));
/// ```
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
    pub(crate) fn is_zero(self) -> bool {
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

/// When to probe, as configured. Steps are those that the loop passes to
/// [`on_step_end`](crate::Callback::on_step_end), taken at face value: with `every = 50` a probe follows
/// steps 0, 50, 100, …
///
/// ```
/// use hessian_probe::ProbeConfig;
/// use hessian_probe::schedule::Duration;
///
/// let config = ProbeConfig::from_toml_str("[schedule]\nevery = \"0.1dur\"\nat = [10, \"1e9tok\"]\nat_end = true")?;
/// assert_eq!(config.schedule.every, Some(Duration::Share(0.1)));
/// assert_eq!(config.schedule.at, [Duration::Steps(10), Duration::Tokens(1_000_000_000)]);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
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
    /// Whether to probe whenever the loop saves a checkpoint.
    pub at_checkpoints: bool,
}

impl ScheduleConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        if self.every.is_some_and(Duration::is_zero) {
            return Err(Error::config(
                "schedule.every",
                "must be more than 0; leave it out for no regular probes",
            ));
        }
        if let (Some(Duration::Steps(start)), Some(Duration::Steps(stop))) = (self.start, self.stop)
            && stop <= start
        {
            return Err(Error::config(
                "schedule.stop",
                format!("{stop} is not after schedule.start = {start}"),
            ));
        }
        Ok(())
    }

    /// Checks that the loop tells what the durations refer to.
    pub(crate) fn validate_for(&self, progress: &Progress) -> Result<()> {
        self.validate_in("schedule", progress)
    }

    /// A regular schedule without anything else.
    pub(crate) fn regular(every: Option<Duration>) -> Self {
        Self { every, ..Self::default() }
    }

    /// The same for a schedule of another section.
    pub(crate) fn validate_in(&self, section: &str, progress: &Progress) -> Result<()> {
        let named = [("every", self.every), ("start", self.start), ("stop", self.stop)];
        let at = self.at.iter().map(|&duration| ("at", Some(duration)));
        for (key, duration) in named.into_iter().chain(at) {
            let missing = match duration {
                Some(Duration::Share(_)) if progress.total_steps.is_none() => "the length of the training",
                Some(Duration::Tokens(_)) if progress.tokens.is_none() => "the number of tokens",
                _ => continue,
            };
            let reason = format!(
                "\"{}\" needs {missing}, which this loop does not tell",
                duration.unwrap_or(Duration::Steps(0))
            );
            return Err(Error::config(format!("{section}.{key}"), reason));
        }
        Ok(())
    }

    /// Whether a probe is due after `step`, `previous_tokens` being the count at the call before.
    pub(crate) fn is_due(&self, step: u64, progress: &Progress, previous_tokens: u64) -> bool {
        let tokens = progress.tokens.unwrap_or(0);
        let clock = Clock { step, total: progress.total_steps.unwrap_or(0), tokens, previous_tokens };
        let regular = self.every.is_some_and(|every| {
            self.start.is_none_or(|start| clock.has_reached(start))
                && !self.stop.is_some_and(|stop| clock.has_reached(stop))
                && clock.is_multiple(every, self.start)
        });
        regular || self.at.iter().any(|&at| clock.is_at(at))
    }
}

/// Where the training stands.
struct Clock {
    step: u64,
    total: u64,
    tokens: u64,
    previous_tokens: u64,
}

impl Clock {
    /// A duration in steps, unless it is in tokens.
    fn steps(&self, duration: Duration) -> Option<u64> {
        match duration {
            Duration::Steps(steps) => Some(steps),
            Duration::Share(share) => Some((share * self.total as f64).round() as u64),
            Duration::Tokens(_) => None,
        }
    }

    fn has_reached(&self, point: Duration) -> bool {
        match point {
            Duration::Tokens(tokens) => self.tokens >= tokens,
            _ => self.steps(point).is_some_and(|steps| self.step >= steps),
        }
    }

    fn is_multiple(&self, every: Duration, start: Option<Duration>) -> bool {
        match every {
            Duration::Tokens(every) => self.tokens / every > self.previous_tokens / every,
            _ => {
                let start = start.and_then(|start| self.steps(start)).unwrap_or(0);
                let every = self.steps(every).unwrap_or(1).max(1);
                self.step.checked_sub(start).is_some_and(|since| since % every == 0)
            }
        }
    }

    fn is_at(&self, point: Duration) -> bool {
        match point {
            Duration::Tokens(at) => self.previous_tokens < at && at <= self.tokens,
            // The whole training ends with the step before its number of steps.
            Duration::Share(_) => {
                self.steps(point).is_some_and(|at| self.step == at.min(self.total.saturating_sub(1)))
            }
            Duration::Steps(at) => self.step == at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProbeConfig;

    fn due(toml: &str, progress: impl Fn(u64) -> Progress) -> Vec<u64> {
        let schedule = ProbeConfig::from_toml_str(&format!("[schedule]\n{toml}")).unwrap().schedule;
        let mut previous = 0;
        (0..100)
            .filter(|&step| {
                let progress = progress(step);
                schedule.validate_for(&progress).unwrap();
                let due = schedule.is_due(step, &progress, previous);
                previous = progress.tokens.unwrap_or(0);
                due
            })
            .collect()
    }

    #[test]
    fn steps_shares_and_tokens_fall_where_they_should() {
        let plain = |_| Progress::default();
        assert_eq!(due("every = 30", plain), [0, 30, 60, 90]);
        assert_eq!(due("every = \"30ba\"\nstart = 5\nstop = 65", plain), [5, 35]);
        assert_eq!(due("at = [3, \"7ba\"]", plain), [3, 7]);
        assert!(due("", plain).is_empty());
        let length = |_| Progress { total_steps: Some(100), tokens: None };
        assert_eq!(due("every = \"0.25dur\"", length), [0, 25, 50, 75]);
        assert_eq!(due("at = [\"1dur\", \"0.5dur\"]", length), [50, 99]);
        assert_eq!(due("every = \"0.001dur\"\nstop = 3", length), [0, 1, 2]);
        let tokens = |step| Progress { total_steps: None, tokens: Some((step + 1) * 300) };
        assert_eq!(due("every = \"1e4tok\"", tokens), [33, 66, 99]);
        assert_eq!(due("every = \"1e4tok\"\nstart = \"15000tok\"", tokens), [66, 99]);
        assert_eq!(due("at = [\"600tok\", \"601tok\"]", tokens), [1, 2]);
    }

    #[test]
    fn a_duration_that_the_loop_cannot_tell_is_an_error_that_names_the_key() {
        for (toml, key) in [("every = \"0.1dur\"", "schedule.every"), ("at = [\"1e6tok\"]", "schedule.at")] {
            let config = ProbeConfig::from_toml_str(&format!("[schedule]\n{toml}")).unwrap();
            let error = config.schedule.validate_for(&Progress::default()).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn durations_are_read_and_written_alike() {
        for (text, duration) in [
            ("500ba", Duration::Steps(500)),
            ("0.1dur", Duration::Share(0.1)),
            ("1e9tok", Duration::Tokens(1_000_000_000)),
            ("12", Duration::Steps(12)),
        ] {
            let read: Duration = text.parse().unwrap();
            assert_eq!(read, duration);
            assert_eq!(read.to_string().parse::<Duration>().unwrap(), duration);
        }
        for bad in ["", "ba", "-1ba", "1.5ba", "1.5dur", "infdur", "nantok", "1e99tok", "3 weeks"] {
            assert!(bad.parse::<Duration>().is_err(), "{bad}");
        }
    }
}
