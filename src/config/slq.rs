//! `[slq]`: stochastic Lanczos quadrature.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};

/// Stochastic Lanczos quadrature.
///
/// ```
/// use hessian_probe::ProbeConfig;
///
/// let config = ProbeConfig::from_toml_str("[slq]\nsteps = 40\nprobes = 4\noperator = \"both\"")?;
/// assert!(config.slq.steps == 40 && config.slq.operator.includes_hessian());
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlqConfig {
    /// m, the Lanczos steps for each probe vector. At most n.
    pub steps: usize,
    /// The probe vectors; two or more give standard errors.
    pub probes: usize,
    /// Which basis vectors each new one is orthogonalised against.
    pub reorthogonalize: Reorthogonalize,
    /// The distribution of the probe vectors' entries.
    pub distribution: Distribution,
    /// The seed of the probe vectors: with a probe's index it determines them, on any number of ranks.
    pub seed: u64,
    /// Find up to so many outliers by a run of their own (m more products a probe, and so many more vectors in
    /// memory) and take them out of all runs, which then resolve smaller eigenvalues. 0: not at all.
    pub deflate: usize,
    /// Of which operator.
    #[serde(skip_serializing_if = "SpectrumOf::is_hessian")]
    pub operator: SpectrumOf,
    /// Where older Lanczos vectors are kept and in which type.
    pub basis: BasisConfig,
    /// The type of the Lanczos vectors: by default that of the parameters, f32 for narrower ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<VectorKind>,
}

impl Default for SlqConfig {
    fn default() -> Self {
        Self {
            steps: 20,
            probes: 1,
            reorthogonalize: Reorthogonalize::Full,
            distribution: Distribution::Rademacher,
            seed: 0,
            deflate: 0,
            operator: SpectrumOf::Hessian,
            basis: BasisConfig::default(),
            dtype: None,
        }
    }
}

/// Of which operator the spectrum is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpectrumOf {
    /// H, the Hessian of the probe loss.
    #[default]
    Hessian,
    /// P^{-1/2} H P^{-1/2}, H as the loop's optimizer sees it: needs a host that lends
    /// [second moments](crate::Host::optimizer).
    Preconditioned,
    /// Both, each with as many probe vectors and steps: twice the products.
    Both,
}

impl SpectrumOf {
    /// Whether it is H alone.
    #[must_use]
    pub fn is_hessian(&self) -> bool {
        *self == Self::Hessian
    }

    /// Whether H is one of them.
    #[must_use]
    pub fn includes_hessian(self) -> bool {
        self != Self::Preconditioned
    }

    /// How people write the operator that a snapshot's own numbers are of: H, where it is one of two.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self.includes_hessian() { "H" } else { "P^(-1/2) H P^(-1/2)" }
    }

    /// The unit of its eigenvalues, η the learning rate.
    #[must_use]
    pub fn unit(self) -> &'static str {
        if self.includes_hessian() { "loss / parameter²" } else { "1/η" }
    }
}

/// Which basis vectors each new Lanczos vector is orthogonalised against, beyond the two that the
/// recurrence names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reorthogonalize {
    /// All of them: the basis of m vectors stays in memory.
    #[default]
    Full,
    /// The last so many: `{ window = r }`, r ≥ 2.
    Window(usize),
    /// All of them, but only at steps where the estimated loss of orthogonality exceeds the square root of the
    /// noise level, measured noise of the products included: the basis stays in memory, passes over it are saved.
    Partial,
    /// None: two vectors in memory. Ritz values repeat once they have converged; such copies are found and merged.
    None,
}

impl Reorthogonalize {
    /// Whether all vectors of a run are kept, and so orthogonal to each other.
    #[must_use]
    pub fn keeps_all(self) -> bool {
        matches!(self, Self::Full | Self::Partial)
    }

    /// How many basis vectors are kept in a run of `steps` steps.
    #[must_use]
    pub fn basis_vectors(self, steps: usize) -> usize {
        match self {
            Self::Full | Self::Partial => steps.max(2),
            Self::Window(window) => window.clamp(2, steps.max(2)),
            Self::None => 2,
        }
    }
}

/// As people read it: `full`, `window 8`.
impl Display for Reorthogonalize {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Window(window) => write!(f, "window {window}"),
            Self::Partial => f.write_str("partial"),
            Self::None => f.write_str("none"),
        }
    }
}

/// How the Lanczos basis is stored. The recurrence itself always has its last two vectors in full precision
/// beside the parameters; what is stored is used for reorthogonalisation only, which needs less.
///
/// ```
/// use hessian_probe::ProbeConfig;
///
/// let config = ProbeConfig::from_toml_str("[slq.basis]\ndtype = \"bf16\"\ndevice = \"cpu\"")?;
/// assert_eq!(config.slq.basis.dtype, Some(hessian_probe::config::BasisKind::Bf16));
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasisConfig {
    /// The type; by default that of the vectors. `"bf16"` halves the memory of f32 and leaves an orthogonality
    /// defect of the size of its rounding, which the snapshot shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<BasisKind>,
    /// The device; by default that of the parameters. On `"cpu"` the accelerator's share does not grow with m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<BasisDevice>,
}

/// The floating-point type of stored basis vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BasisKind {
    /// 16 bits with the range of f32.
    Bf16,
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

/// Where stored basis vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BasisDevice {
    /// In the host's memory.
    Cpu,
}

/// The distribution of probe vectors' entries; both have mean 0 and variance 1 before normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// ±1 with equal probability: the smaller variance for traces.
    #[default]
    Rademacher,
    /// Standard normal.
    Gaussian,
}

/// The floating-point type of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorKind {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

impl SlqConfig {
    pub(super) fn validate(&self) -> Result<()> {
        if self.steps == 0 {
            return Err(Error::config("slq.steps", "must be at least 1"));
        }
        if self.probes == 0 {
            return Err(Error::config("slq.probes", "must be at least 1"));
        }
        if self.deflate > 0 && !self.reorthogonalize.keeps_all() {
            let reason = "needs all Lanczos vectors to make Ritz vectors of; with slq.reorthogonalize = \"full\" or \"partial\"";
            return Err(Error::config("slq.deflate", reason));
        }
        if self.deflate > 0 && !self.operator.includes_hessian() {
            let reason =
                "takes outliers out of runs on the Hessian; with slq.operator = \"hessian\" or \"both\"";
            return Err(Error::config("slq.deflate", reason));
        }
        if let Reorthogonalize::Window(window) = self.reorthogonalize
            && window < 2
        {
            return Err(Error::config(
                "slq.reorthogonalize",
                format!(
                    "a window of {window} is less than the recurrence itself needs; at least 2, or \"none\""
                ),
            ));
        }
        Ok(())
    }
}
