//! How the frequencies of rotary embeddings are changed to serve longer texts.

use super::config::invalid;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// What becomes of the frequencies `f_j = θ^(-2j/h)`; as a table, under Hugging Face's names.
///
/// ```
/// use hessian_probe_fsdp::RopeScaling;
///
/// let scaling: RopeScaling = serde_json::from_str(r#"{"rope_type": "linear", "factor": 2.0}"#)?;
/// assert_eq!(scaling.frequencies(1e4, 4), [0.5, 0.005]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// Nothing.
    #[default]
    Default,
    /// All are divided by `factor` (Chen et al., *Extending Context Window of Large Language Models via Positional
    /// Interpolation*, 2023).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Those of long wavelengths are divided by `factor`, those of short ones are left, with a ramp between
    /// (Grattafiori et al., *The Llama 3 Herd of Models*, 2024). With `r` the number of turns within the
    /// original length, the divisor is `factor` for `r < low_freq_factor`, 1 for `r > high_freq_factor`, and
    /// between them the frequency is interpolated linearly in `r`.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Turns below which a frequency is low.
        low_freq_factor: f64,
        /// Turns above which a frequency is high.
        high_freq_factor: f64,
        /// The length that the model was trained on first, in tokens.
        original_max_position_embeddings: usize,
    },
    /// Frequency `j` is divided by `factors[j]`: how a GGUF file spells whatever its maker had.
    Factors {
        /// One divisor for each pair of a head's elements.
        factors: Vec<f64>,
    },
}

impl RopeScaling {
    /// Whether frequencies are left as they are.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::Default
    }

    /// The frequency of each of the `head_size / 2` pairs, in radians per token.
    #[must_use]
    pub fn frequencies(&self, theta: f64, head_size: usize) -> Vec<f64> {
        let half = head_size / 2;
        let plain = (0..half).map(|j| theta.powf(-(j as f64) / half as f64));
        match self {
            Self::Default => plain.collect(),
            Self::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => plain
                .map(|frequency| {
                    let turns = *original as f64 * frequency / TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    frequency * (kept + (1.0 - kept) / factor)
                })
                .collect(),
            Self::Factors { factors } => {
                plain.zip(factors).map(|(frequency, factor)| frequency / factor).collect()
            }
        }
    }

    pub(super) fn validate(&self, head_size: usize) -> Result<()> {
        let positive = |key: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(invalid(&format!("rope_scaling.{key}"), format!("is {value}, must be positive"))),
        };
        match self {
            Self::Default => Ok(()),
            Self::Linear { factor } => positive("factor", *factor),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                positive("factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("high_freq_factor", *high_freq_factor)?;
                positive("original_max_position_embeddings", *original_max_position_embeddings as f64)?;
                if high_freq_factor <= low_freq_factor {
                    let reason =
                        format!("is {high_freq_factor}, must be above low_freq_factor = {low_freq_factor}");
                    return Err(invalid("rope_scaling.high_freq_factor", reason));
                }
                Ok(())
            }
            Self::Factors { factors } => {
                if factors.len() != head_size / 2 {
                    let reason = format!(
                        "has {} values, must have one for each of the {} pairs of a head",
                        factors.len(),
                        head_size / 2
                    );
                    return Err(invalid("rope_scaling.factors", reason));
                }
                factors.iter().try_for_each(|&factor| positive("factors", factor))
            }
        }
    }
}
