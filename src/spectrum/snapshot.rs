//! The record of one probe.

use crate::blocks::BlockDiagonal;
use crate::config::SpectrumOf;
use crate::cost::Parts;
use crate::directions::Directions;
use crate::optimizer::{PreconditionedSpectrum, Stability};
use serde::{Deserialize, Serialize};

/// The version of [`Snapshot`]'s serialised form; raised when a field changes its meaning.
pub const SNAPSHOT_VERSION: u32 = 1;

/// An estimate over probe vectors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean over probe vectors (for functions of means: that function of the means).
    pub mean: f64,
    /// Its standard error; `None` where there is only one probe vector and so nothing to estimate it from.
    pub standard_error: Option<f64>,
}

/// An extreme Ritz value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extreme {
    /// The Ritz value.
    pub value: f64,
    /// An eigenvalue of the Hessian lies within this distance of `value`: the sum of the two parts below.
    pub residual: f64,
    /// The part that Lanczos leaves: β_m times the last component of the Ritz vector in the Krylov basis.
    pub lanczos_residual: f64,
    /// The part that the Hessian-vector products may add: [`PREDICTION_FACTOR`](super::PREDICTION_FACTOR)
    /// times their predicted error, as it acts on this Ritz pair.
    pub hvp_error: f64,
}

/// What lies below the noise of the Hessian-vector products.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unresolved {
    /// Ritz values smaller than their own operator noise count as unresolved; this is the largest
    /// noise among them, or the smallest noise of any Ritz value where none is unresolved.
    pub floor: f64,
    /// The quadrature mass (share of eigenvalues) of the unresolved Ritz values.
    pub mass: Estimate,
}

/// One Lanczos run: its matrix T and the quadrature that follows from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// The number of the probe vector, from 0; with the seed it determines the vector.
    pub index: u64,
    /// The diagonal of T.
    pub alpha: Vec<f64>,
    /// The off-diagonal of T; its last entry is β_m, which couples to the vector not taken.
    pub beta: Vec<f64>,
    /// The Ritz values, ascending.
    pub nodes: Vec<f64>,
    /// The quadrature weights, which sum to 1: squared first components of T's eigenvectors.
    pub weights: Vec<f64>,
    /// For each node the Lanczos residual |β_m s_m|.
    pub residuals: Vec<f64>,
    /// For each node the predicted error of the operator on its Ritz vector.
    pub hvp_errors: Vec<f64>,
    /// The number of steps after which the Krylov space was invariant (T is then exact), if it was.
    pub breakdown: Option<usize>,
    /// max|QᵀQ − I| over the run's vectors, where all of them were stored.
    #[serde(default)]
    pub orthogonality_defect: Option<f64>,
    /// Steps at which the new vector was orthogonalised against all stored ones.
    #[serde(default)]
    pub reorthogonalized: usize,
    /// What was merged into other nodes, in a run that does not keep its vectors orthogonal to all before.
    #[serde(default)]
    pub ghosts: Option<Ghosts>,
    /// Outliers that were found by a run of their own and taken out of this one, which then is T's; they are
    /// among the nodes. Largest magnitude first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deflated: Vec<DeflatedValue>,
}

/// An outlier that was deflated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeflatedValue {
    /// Its Ritz value.
    pub value: f64,
    /// Its weight in the quadrature: the squared component of the start vector along its Ritz vector.
    pub weight: f64,
    /// Its Lanczos residual.
    pub residual: f64,
    /// The predicted error of the operator on its Ritz vector.
    pub hvp_error: f64,
}

/// Eigenvalues of T that stand for no eigenvalue of their own: see [`ghosts`](super::ghosts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ghosts {
    /// Copies of converged Ritz values.
    pub copies: usize,
    /// Values that no eigenvalue belongs to.
    pub spurious: usize,
}

/// How the Hessian-vector products of a snapshot went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HvpReport {
    /// Products by forward differences.
    pub forward: u64,
    /// Products by central differences.
    pub central: u64,
    /// Products by central differences of fourth order.
    #[serde(default)]
    pub central4: u64,
    /// Products by the host's own second derivative.
    #[serde(default)]
    pub exact: u64,
    /// Products computed again with a better step.
    pub redone: u64,
    /// Gradients spent on what these products took the place of.
    #[serde(default)]
    pub redone_gradients: u64,
    /// The smallest step h used, in units of the parameters (for a unit vector).
    pub step_min: f64,
    /// The largest step h used.
    pub step_max: f64,
    /// The median over products of the predicted relative error of Hv.
    pub predicted_error_median: f64,
    /// The worst predicted relative error of Hv.
    pub predicted_error_worst: f64,
    /// The median over products of the parity ratio p = ‖g₊ + g₋ − 2g‖ / ‖g₊ − g₋‖, measured or scaled.
    pub parity_median: f64,
    /// The worst parity ratio.
    pub parity_worst: f64,
    /// The worst ρ = ‖(θ₊ − θ₋)/2h̄ − v‖: what rounding of the perturbed parameters adds in other directions.
    pub rounding_worst: f64,
    /// η, the norm of the noise of one gradient.
    pub gradient_noise: f64,
    /// The noise of one component of the gradient, ⟨g, v⟩ for a random unit vector v, by ECNoise; `None` where
    /// its table of differences did not settle.
    #[serde(default)]
    pub component_noise: Option<f64>,
    /// Whether two gradients at the same parameters had the same bits, when the noise was last measured.
    pub gradient_repeats: Option<bool>,
    /// ‖g − g′‖ for these two gradients: the size of what does not repeat. It is part of the noise.
    #[serde(default)]
    pub repeat_difference: Option<f64>,
    /// |uᵀHv − vᵀHu| / (‖Hu‖‖v‖) for two independent random vectors, when the noise was last measured: 0 for
    /// exact products.
    #[serde(default)]
    pub asymmetry: Option<f64>,
}

/// What a snapshot cost: on this rank, where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Wall-clock seconds of the whole probe.
    pub seconds: f64,
    /// Of these, seconds in the host's gradient.
    pub gradient_seconds: f64,
    /// Of these, seconds in the group's all_reduce.
    pub communication_seconds: f64,
    /// Gradients computed, all together.
    pub gradients: u64,
    /// Of these, gradients for measuring the noise.
    pub calibration_gradients: u64,
    /// all_reduces of the probe itself (the host's own not included).
    pub all_reduces: u64,
    /// `f64` values that they reduced.
    pub reduced_values: u64,
    /// Bytes of the Lanczos basis on this rank; of the vectors for block-diagonal fidelity, where they are more.
    pub basis_bytes: u64,
    /// Bytes of all other vectors of the probe on this rank.
    pub vector_bytes: u64,
    /// Bytes of physical memory: the peak of each rank's process from its start to the end of this probe, summed over
    /// ranks. All that the process did counts, the probe's own gradients and what came before (loading the model,
    /// training). `None` where the system of a rank does not tell.
    #[serde(default)]
    pub peak_memory_bytes: Option<u64>,
    /// Where `seconds` went; all 0 in records of before this was measured.
    #[serde(default)]
    pub parts: Parts,
}

/// Everything that one probe found, with units and errors. One JSON line.
///
/// Eigenvalues are in units of loss per squared parameter. A *share* is between 0 and 1.
///
/// ```
/// use hessian_probe::{HessianProbe, ProbeConfig, Snapshot};
/// # use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard, SingleProcess};
/// # /// L = x²/2 + 2y².
/// # struct Valley(tch::Tensor);
/// # impl Host for Valley {
/// #     fn shards(&self) -> Vec<Shard> {
/// #         Shard::whole([("xy".to_owned(), self.0.shallow_clone())], false)
/// #     }
/// #     fn gradient(&mut self) -> Result<Gradient, HostError> {
/// #         let gradient = self.0.f_mul(&tch::Tensor::from_slice(&[1.0, 4.0]))?;
/// #         let loss = gradient.f_dot(&self.0)?.f_double_value(&[])? / 2.0;
/// #         Ok(Gradient { loss, tensors: vec![gradient] })
/// #     }
/// #     fn group(&self) -> &dyn ProcessGroup {
/// #         &SingleProcess
/// #     }
/// # }
/// # let config = "[slq]\nsteps = 2\nprobes = 3\n[log]\ntensorboard = false\njsonl = false";
/// # let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(config)?)?;
/// # let mut host = Valley(tch::Tensor::from_slice(&[3.0, 1.0]));
/// // A loss of two parameters whose Hessian has the eigenvalues 1 and 4.
/// let snapshot: &Snapshot = probe.probe(0, &mut host)?;
/// let max = snapshot.lambda_max;
/// assert!((max.value - 4.0).abs() <= max.residual + 1e-6);
/// let trace = snapshot.trace;
/// let error = trace.standard_error.unwrap_or(f64::NAN); // none for one probe vector
/// assert!((trace.mean - 5.0).abs() <= 5.0 * error + 1e-6);
/// assert!(snapshot.warnings.is_empty());
///
/// // The raw quadrature: tr f(H) ≈ n Σ weight · f(node), here with f(λ) = λ².
/// let run = &snapshot.probes[0];
/// let squares: f64 = run.nodes.iter().zip(&run.weights).map(|(node, weight)| weight * node * node).sum();
/// assert!((snapshot.parameters as f64 * squares - 17.0).abs() < 1e-5);
///
/// let line = serde_json::to_string(snapshot)?;
/// assert_eq!(&serde_json::from_str::<Snapshot>(&line)?, snapshot);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SNAPSHOT_VERSION`].
    pub version: u32,
    /// The optimizer step after which the probe ran, counted from 0.
    pub step: u64,
    /// Seconds since 1970-01-01 UTC.
    pub unix_time: f64,
    /// Ranks that shared the model.
    pub world_size: usize,
    /// n, the number of parameters, each counted once.
    pub parameters: u64,
    /// Targets that the probe loss is a mean over, where the host tells.
    pub tokens: Option<u64>,
    /// The seed of the probe vectors.
    pub seed: u64,
    /// The probe loss at the unperturbed parameters.
    pub loss: f64,
    /// ‖∇L‖ there.
    pub gradient_norm: f64,
    /// ‖θ‖.
    pub parameter_norm: f64,
    /// The algebraically largest Ritz value over all probe vectors.
    pub lambda_max: Extreme,
    /// The algebraically smallest Ritz value over all probe vectors.
    pub lambda_min: Extreme,
    /// tr H.
    pub trace: Estimate,
    /// tr H / n.
    pub mean_eigenvalue: Estimate,
    /// ‖H‖_F.
    pub frobenius_norm: Estimate,
    /// The share of Ritz mass below zero. Where most of it is one node close to zero, as with few steps on
    /// a large model, the sign of that node decides: see `negative_share_resolved`.
    pub negative_share: Estimate,
    /// The share of Ritz mass that is below zero for certain: by more than residual and noise together. A
    /// lower bound of the share of negative eigenvalues.
    pub negative_share_resolved: Estimate,
    /// tr(|H|)² / ‖H‖_F²: how many eigenvalues of equal size would give these norms. `None` if H = 0.
    pub effective_rank: Option<Estimate>,
    /// ‖H‖_F² / λ², λ the largest magnitude. `None` if H = 0.
    pub stable_rank: Option<Estimate>,
    /// −Σ p ln p with p = |λ| / tr|H|, in nats. `None` if H = 0.
    pub spectral_entropy: Option<Estimate>,
    /// What the noise hides.
    pub unresolved: Unresolved,
    /// How much of H is block-diagonal, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_diagonal: Option<BlockDiagonal>,
    /// Of which operator everything from `lambda_max` to `unresolved` and `probes` are:
    /// [`Hessian`](SpectrumOf::Hessian), also where both were asked for, or [`Preconditioned`](SpectrumOf::Preconditioned).
    #[serde(default, skip_serializing_if = "SpectrumOf::is_hessian")]
    pub operator: SpectrumOf,
    /// `lambda_max` of the Hessian against the largest that the optimizer bears, where the host lends one whose steps
    /// are not preconditioned (SGD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<Stability>,
    /// The Hessian as an adaptive optimizer sees it, where that was asked for and there were second moments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preconditioned: Option<PreconditionedSpectrum>,
    /// Curvature along single directions, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directions: Option<Directions>,
    /// What a reader has to know before any other number: see [`regime`](super::regime). Empty where all is well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The Lanczos runs.
    pub probes: Vec<ProbeRecord>,
    /// How the products went.
    pub hvp: HvpReport,
    /// What it cost.
    pub cost: Cost,
}

impl Snapshot {
    /// The largest eigenvalue, as the optimizer sees it, over the largest that it bears: above 1 is unstable. `None` where the
    /// host lends no optimizer, or the operator that counts for it was not asked for.
    #[must_use]
    pub fn margin(&self) -> Option<f64> {
        self.effective_stability().and_then(|stability| stability.margin)
    }

    /// That of the operator that counts for the optimizer.
    pub(crate) fn effective_stability(&self) -> Option<&Stability> {
        self.preconditioned.as_ref().map(|seen| &seen.stability).or(self.stability.as_ref())
    }
}
