//! What is logged of a trigger.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Why a probe started by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The training loss.
    LossSpike {
        /// The loss; `None` where it is not finite.
        loss: Option<f64>,
        /// z; `None` where the loss is not finite.
        score: Option<f64>,
        /// The median of the losses before it.
        median: f64,
        /// 1.4826 · MAD of these: a standard deviation, if they were normal.
        deviation: f64,
    },
    /// The largest tracked eigenvalue over the optimizer's threshold.
    Margin {
        /// The margin.
        value: f64,
        /// The limit.
        limit: f64,
    },
    /// The share of the critical step that the step takes.
    StepRatio {
        /// The ratio, or the bound of it that is known.
        value: f64,
        /// The limit.
        limit: f64,
    },
    /// The user.
    File {
        /// The file that appeared.
        path: PathBuf,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LossSpike { loss: Some(loss), score: Some(score), median, deviation } => write!(
                f,
                "the loss {loss:.4} is {score:.1} robust standard deviations ({deviation:.1e}) above the median {median:.4}"
            ),
            Self::LossSpike { median, .. } => write!(f, "the loss is not finite; the median was {median:.4}"),
            Self::Margin { value, limit } => write!(f, "the margin {value:.3} is above {limit}"),
            Self::StepRatio { value, limit } => {
                write!(f, "the step is {value:.3} of the critical one, above {limit}")
            }
            Self::File { path } => write!(f, "{} was there", path.display()),
        }
    }
}

/// The cheap numbers of one step; what was not measured is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// The step.
    pub step: u64,
    /// The training loss, the mean over ranks; `None` also where it was not finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Its robust score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// λ_max of the operator that `[track]` is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda_max: Option<f64>,
    /// It over the optimizer's threshold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// η/η_c, of critical sharpness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_ratio: Option<f64>,
}

/// A probe that started by itself: written before its snapshot, which has the same step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Triggered {
    /// The step.
    pub step: u64,
    /// Seconds since 1970-01-01 UTC.
    pub unix_time: f64,
    /// Why; several at once are possible.
    pub causes: Vec<Cause>,
    /// The last steps, this one last: at most `triggers.recent`.
    pub recent: Vec<Recent>,
}

impl fmt::Display for Triggered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, cause) in self.causes.iter().enumerate() {
            write!(f, "{}{cause}", if position == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
