//! What a user can set: one struct, read from TOML, validated before any training step.

use crate::blocks::BlocksConfig;
use crate::budget::BudgetConfig;
use crate::error::{Error, Result};
use crate::host::Precision;
use crate::schedule::ScheduleConfig;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The configuration of a [`HessianProbe`](crate::HessianProbe). Every key has a default; an unknown
/// key is an error that names it.
///
/// ```
/// let config = hessian_probe::ProbeConfig::from_toml_str(
///     r#"
///     [schedule]
///     every = 500
///
///     [slq]
///     steps = 20
///     probes = 2
///
///     [log]
///     dir = "runs/curvature"
///     "#,
/// )?;
/// assert_eq!(config.slq.steps, 20);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// What happens to training when a probe fails.
    pub on_error: OnError,
    /// When to probe.
    pub schedule: ScheduleConfig,
    /// Stochastic Lanczos quadrature.
    pub slq: SlqConfig,
    /// Hessian-vector products.
    pub hvp: HvpConfig,
    /// The block-diagonal part of the Hessian; off by default.
    pub blocks: BlocksConfig,
    /// What a probe may cost.
    pub budget: BudgetConfig,
    /// How a long probe survives the end of its process.
    pub resume: ResumeConfig,
    /// Where the results go.
    pub log: LogConfig,
}

/// What happens to training when a probe fails. Parameters are restored in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The probe is skipped, its reason is logged, training goes on. A lost rank is an error all the
    /// same: the loop's own next collective could not succeed either.
    #[default]
    Skip,
    /// The callback returns the error.
    Stop,
}

/// Stochastic Lanczos quadrature.
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
            basis: BasisConfig::default(),
            dtype: None,
        }
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

/// How the Lanczos basis is stored. The recurrence itself always has its last two vectors in full precision
/// beside the parameters; what is stored is used for reorthogonalisation only, which needs less.
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

/// Hessian-vector products by gradient differences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HvpConfig {
    /// The difference formula.
    pub difference: Difference,
    /// In which precision the probe's gradients are computed.
    pub precision: Precision,
    /// How the step h is chosen.
    pub step_size: StepSize,
    /// The predicted relative error of Hv above which a product is computed again with a better step
    /// and, under `difference = "auto"`, forward differences give way to central ones.
    pub max_relative_error: f64,
    /// Every so many probes the noise of the gradient is measured anew.
    pub recalibrate_every: u64,
}

impl Default for HvpConfig {
    fn default() -> Self {
        Self {
            difference: Difference::Auto,
            precision: Precision::Loop,
            step_size: StepSize::Auto,
            max_relative_error: 0.02,
            recalibrate_every: 10,
        }
    }
}

/// The difference formula of a Hessian-vector product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Difference {
    /// Forward where its predicted error allows it, central elsewhere.
    #[default]
    Auto,
    /// (g(θ + hv) − g(θ)) / h: one gradient, an error of first order in h.
    Forward,
    /// (g(θ + hv) − g(θ − hv)) / 2h: two gradients, an error of second order in h.
    Central,
    /// (8[g(θ + hv) − g(θ − hv)] − [g(θ + 2hv) − g(θ − 2hv)]) / 12h: four gradients, an error of fourth order
    /// in h.
    Central4,
    /// By differentiating twice, where the host offers it ([`Host::exact_hvp`](crate::Host::exact_hvp)).
    Exact,
}

/// How the step h is chosen, for a unit vector v.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepSize {
    /// For every vector, from what its own differences tell.
    #[default]
    Auto,
    /// h itself: `{ absolute = 1e-3 }`.
    Absolute(f64),
    /// h as a multiple of ‖θ‖: `{ relative = 1e-6 }`.
    Relative(f64),
}

/// How a long probe survives the end of its process: its Lanczos vectors and T are saved as it goes, and the
/// next process that probes the same step with the same parameters, data and configuration, on any number of
/// ranks, goes on from them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeConfig {
    /// Save after every so many Lanczos steps; not at all by default. Each vector is written once, by each
    /// rank its own part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<usize>,
    /// The directory, which all ranks must see; by default `krylov` in the log directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
}

/// Where the results go. Rank 0 writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The directory, made if it does not exist.
    pub dir: PathBuf,
    /// Whether to write a TensorBoard event file.
    pub tensorboard: bool,
    /// Whether to write `snapshots.jsonl`.
    pub jsonl: bool,
    /// How many records may wait for the disk; one more is dropped with a warning, training never waits.
    pub queue: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from("runs/hessian-probe"), tensorboard: true, jsonl: true, queue: 64 }
    }
}

impl ProbeConfig {
    /// Reads and validates a configuration file.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown key or an impossible value; the
    /// message names the file, the key and the reason.
    pub fn from_toml(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::ReadConfig { path: path.to_owned(), source })?;
        Self::from_toml_str(&text)
            .map_err(|source| Error::InFile { path: path.to_owned(), source: Box::new(source) })
    }

    /// Reads and validates a configuration.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml).
    pub fn from_toml_str(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(Box::new)?;
        config.validate()?;
        Ok(config)
    }

    /// Where probes that are under way are saved.
    #[must_use]
    pub fn resume_directory(&self) -> PathBuf {
        self.resume.dir.clone().unwrap_or_else(|| self.log.dir.join("krylov"))
    }

    /// The configuration as TOML, defaults filled in.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    /// Checks every value on its own; what depends on the model (steps ≤ n) is checked at the start
    /// of training.
    ///
    /// # Errors
    /// The first impossible value, by key and reason.
    pub fn validate(&self) -> Result<()> {
        self.schedule.validate()?;
        self.slq.validate()?;
        self.hvp.validate()?;
        self.blocks.validate()?;
        self.budget.validate()?;
        if self.resume.every == Some(0) {
            return Err(Error::config("resume.every", "must be at least 1; leave it out to save nothing"));
        }
        if self.resume.every.is_some() && self.slq.deflate > 0 {
            let reason = "a probe that deflates outliers cannot be resumed; leave out one of resume.every and slq.deflate";
            return Err(Error::config("resume.every", reason));
        }
        self.log.validate()
    }
}

impl SlqConfig {
    fn validate(&self) -> Result<()> {
        if self.steps == 0 {
            return Err(Error::config("slq.steps", "must be at least 1"));
        }
        if self.probes == 0 {
            return Err(Error::config("slq.probes", "must be at least 1"));
        }
        let stores_all = matches!(self.reorthogonalize, Reorthogonalize::Full | Reorthogonalize::Partial);
        if self.deflate > 0 && !stores_all {
            let reason = "needs all Lanczos vectors to make Ritz vectors of; with slq.reorthogonalize = \"full\" or \"partial\"";
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

impl HvpConfig {
    fn validate(&self) -> Result<()> {
        if let StepSize::Absolute(h) | StepSize::Relative(h) = self.step_size
            && !(h.is_finite() && h > 0.0)
        {
            return Err(Error::config("hvp.step_size", format!("{h} is not a positive number")));
        }
        if !(self.max_relative_error > 0.0 && self.max_relative_error < 1.0) {
            return Err(Error::config(
                "hvp.max_relative_error",
                format!("{} is not between 0 and 1", self.max_relative_error),
            ));
        }
        if self.recalibrate_every == 0 {
            return Err(Error::config("hvp.recalibrate_every", "must be at least 1"));
        }
        Ok(())
    }
}

impl LogConfig {
    fn validate(&self) -> Result<()> {
        if self.queue == 0 {
            return Err(Error::config("log.queue", "must be at least 1"));
        }
        if self.dir.as_os_str().is_empty() {
            return Err(Error::config("log.dir", "must name a directory"));
        }
        Ok(())
    }
}
