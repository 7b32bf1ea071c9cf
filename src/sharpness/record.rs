//! What is found of critical sharpness.

use serde::{Deserialize, Serialize};

/// Critical sharpness at one step.
///
/// ```
/// use hessian_probe::{HessianProbe, ProbeConfig, Update};
///
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
/// #     fn update(&mut self) -> Result<Option<Update>, HostError> {
/// #         let gradient = self.gradient()?.tensors;
/// #         Ok(Some(Update { tensors: vec![gradient[0].f_mul_scalar(-0.1)?], coming: true }))
/// #     }
/// #     fn group(&self) -> &dyn ProcessGroup {
/// #         &SingleProcess
/// #     }
/// # }
/// # let mut host = Valley(tch::Tensor::from_slice(&[3.0, 1.0]));
/// // Gradient descent with η = 0.1 on L = x²/2 + 2y² at (3, 1): L(θ − cηg) = L(θ) at c = 2‖g‖²/(η gᵀHg).
/// let mut probe = HessianProbe::new(ProbeConfig::from_toml_str("[slq]\nsteps = 2\n[log]\ntensorboard = false\njsonl = false")?)?;
/// let found = probe.critical_sharpness(0, &mut host)?.expect("there is an update");
/// let exact = 2.0 * 25.0 / (0.1 * 73.0);
/// assert!(found.lower.unwrap() <= exact && exact <= found.upper.unwrap());
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CriticalSharpness {
    /// The optimizer step, counted from 0.
    pub step: u64,
    /// Seconds since 1970-01-01 UTC.
    pub unix_time: f64,
    /// Whether u is the update that comes next; otherwise the last one, as if it were made again.
    pub coming: bool,
    /// L(θ), by a forward pass on the probe batch.
    pub loss: f64,
    /// ‖u‖.
    pub update_norm: f64,
    /// c: the loss rises above L(θ) at cu. `None` where it did not at any multiple that was tried, or did at all of them.
    pub multiple: Option<f64>,
    /// What `multiple` may be off by: to the farther end of the bracket, and by the rounding of the loss.
    pub error: Option<f64>,
    /// The largest multiple at which the loss was seen not to exceed L(θ), below `upper`.
    pub lower: Option<f64>,
    /// The smallest multiple at which it was seen to.
    pub upper: Option<f64>,
    /// 1/c = η/η_c: above 1, this step makes the loss larger. `None` where c is not known.
    pub step_ratio: Option<f64>,
    /// η of the coming step, where the host tells it and u is that step.
    pub learning_rate: Option<f64>,
    /// 2/(cη); 1/η. `None` where c or η is not known.
    pub sharpness: Option<f64>,
    /// The share of cu that θ + cu really moves, at the last multiple tried, rounded to the parameters' precision.
    pub realised: f64,
    /// Forward passes.
    pub passes: u64,
    /// Wall-clock seconds, with those for getting the update and putting everything back.
    pub seconds: f64,
    /// `seconds` over those of training since the one before it; `None` for the first of a session.
    pub share: Option<f64>,
}

impl CriticalSharpness {
    /// The share of the critical step that this one takes at least: 1/c, or its bound where the loss rose at every multiple
    /// that was tried.
    #[must_use]
    pub fn step_ratio_at_least(&self) -> Option<f64> {
        self.step_ratio.or_else(|| self.upper.map(f64::recip))
    }
}
