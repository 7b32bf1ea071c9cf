//! `[triggers]`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// More than any record from before a spike needs; it is written into checkpoints.
const LONGEST: usize = 1 << 16;

/// What starts a probe besides the schedule; off by default. With any of it on, every step takes one all_reduce of a few
/// numbers, from which all ranks draw the same conclusion, and keeps as many as `window` and `recent` say.
/// `checkpoint_margin` and `stop_margin` start none: with these alone, only a step that has measured a margin takes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TriggersConfig {
    /// By how many robust standard deviations the training loss must exceed the median of the last ones: 6, say. The host
    /// must tell it ([`Host::training_loss`](crate::Host::training_loss)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_spike: Option<f64>,
    /// The losses that a spike is judged by; from half of them on.
    pub window: usize,
    /// The largest `margin` that `[track]` may find without a probe. An adaptive optimizer has one with `slq.operator =
    /// "preconditioned"` or `"both"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The largest `step_ratio` that `[sharpness]` may find without a probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_ratio: Option<f64>,
    /// A file for which rank 0 looks ten times a second, on a thread of its own: when it is there, it is removed, and a probe
    /// follows the step that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// For so many steps after a trigger neither losses nor margins are one again. A file always is.
    pub cooldown: u64,
    /// How many steps the record from before a trigger goes back.
    pub recent: usize,
    /// A `margin` of a probe or of `[track]` above this has the loop save a checkpoint
    /// ([`Control::RequestCheckpoint`](crate::Control::RequestCheckpoint)), again after `cooldown` at the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_margin: Option<f64>,
    /// A `margin` above this has the loop stop ([`Control::RequestStop`](crate::Control::RequestStop)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_margin: Option<f64>,
}

impl Default for TriggersConfig {
    fn default() -> Self {
        Self {
            loss_spike: None,
            window: 64,
            margin: None,
            step_ratio: None,
            file: None,
            cooldown: 100,
            recent: 256,
            checkpoint_margin: None,
            stop_margin: None,
        }
    }
}

impl TriggersConfig {
    /// Whether anything can start a probe.
    #[must_use]
    pub fn is_on(&self) -> bool {
        let limits = [self.loss_spike, self.margin, self.step_ratio];
        limits.iter().any(Option::is_some) || self.file.is_some()
    }

    /// Whether a margin can ask for something.
    ///
    /// ```
    /// use hessian_probe::ProbeConfig;
    ///
    /// let config = ProbeConfig::from_toml_str("[track]\nevery = 5\n[triggers]\nloss_spike = 6.0\nmargin = 1.0\nstop_margin = 2.0")?;
    /// assert!(config.triggers.is_on() && config.triggers.limits_margin());
    /// # Ok::<(), hessian_probe::Error>(())
    /// ```
    #[must_use]
    pub fn limits_margin(&self) -> bool {
        self.checkpoint_margin.is_some() || self.stop_margin.is_some()
    }

    /// For serde: a configuration that does not mention it is written as before it could.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn validate(&self, tracks: bool, watches_sharpness: bool) -> Result<()> {
        for (key, limit) in [
            ("loss_spike", self.loss_spike),
            ("margin", self.margin),
            ("step_ratio", self.step_ratio),
            ("checkpoint_margin", self.checkpoint_margin),
            ("stop_margin", self.stop_margin),
        ] {
            if let Some(limit) = limit.filter(|limit| !(limit.is_finite() && *limit > 0.0)) {
                return Err(Error::config(
                    format!("triggers.{key}"),
                    format!("{limit} is not a positive number"),
                ));
            }
        }
        for (key, length, least) in [("window", self.window, 8), ("recent", self.recent, 1)] {
            if !(least..=LONGEST).contains(&length) {
                let reason = format!("{length} is not between {least} and {LONGEST}");
                return Err(Error::config(format!("triggers.{key}"), reason));
            }
        }
        if self.margin.is_some() && !tracks {
            let reason = "nothing finds a margin between probes; it needs track.every";
            return Err(Error::config("triggers.margin", reason));
        }
        if self.step_ratio.is_some() && !watches_sharpness {
            let reason = "nothing finds a ratio; it needs sharpness.every";
            return Err(Error::config("triggers.step_ratio", reason));
        }
        if self.file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            return Err(Error::config("triggers.file", "must name a file"));
        }
        Ok(())
    }
}
