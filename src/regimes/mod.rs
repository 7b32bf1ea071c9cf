//! In which regime of step and precision are Hessian-vector products, and what follows from them, to be trusted?
//!
//! A *reference* is taken first, at a host of high precision: products along three unit vectors, and a Lanczos run.
//! Then each host under test is measured against it.
//!
//! ```text
//! reference host (f64) ── Reference::measure ──┬── directions: v, Hv ──┐
//!                                              └── T of a run ─────────┼──┐
//! tested host (f32, bf16, …) ──────────────── sweep ◄──────────────────┘  │   U-curve, the automatic choice, noise
//! tested host ─────────────────────────────── degrade ◄───────────────────┘   α, β, Ritz values, moments, orthogonality
//! ```
//!
//! No two hosts are needed at a time: each may be made, measured and dropped.
//!
//! # The vectors
//! - [`Random`](DirectionKind::Random): signs / √n, by (seed, global index), the start of a probe;
//! - [`Gradient`](DirectionKind::Gradient): g / ‖g‖ of the reference;
//! - [`Top`](DirectionKind::Top): the Ritz vector of the largest value of the reference's Lanczos run.
//!
//! The steps that suit them are orders of magnitude apart.
//!
//! # Errors of products
//! The *true* error of a product w is ‖w − Hv‖ / ‖Hv‖ with the reference's Hv, the *predicted* one is what a probe
//! reports. Steps h are absolute, along unit vectors; powers of ten of equal ratio, so that sweeps of several hosts
//! have the same steps.
//!
//! # Where the reference stands
//! At the parameters that the forward pass under test uses: a host that computes in bf16 has the Hessian of the
//! rounded parameters. [`round_parameters`] takes a reference host there.
//!
//! # What it costs
//! [`RegimesConfig::plan`] tells how many gradients. On each rank a reference keeps six vectors of the type of its
//! parameters ([`Reference::drop_directions`] frees them once all sweeps are done), a sweep takes two and a run the
//! Lanczos basis beside what a probe takes.
//!
//! ```
//! # use hessian_probe::{Gradient, Host, HostError, ProcessGroup, Shard, SingleProcess};
//! use hessian_probe::Interrupter;
//! use hessian_probe::regimes::{Method, Reference, RegimesConfig, Watch, measure};
//! use tch::{Kind, Tensor};
//!
//! # struct Quartic(Tensor);
//! # impl Host for Quartic {
//! #     fn shards(&self) -> Vec<Shard> {
//! #         Shard::whole([("x".into(), self.0.shallow_clone())], false)
//! #     }
//! #     fn gradient(&mut self) -> Result<Gradient, HostError> {
//! #         let square = self.0.f_mul(&self.0)?;
//! #         let gradient = square.f_mul(&self.0)?;
//! #         let loss = square.f_dot(&square)?.f_double_value(&[])? / 4.0;
//! #         Ok(Gradient { loss, tensors: vec![gradient] })
//! #     }
//! #     fn group(&self) -> &dyn ProcessGroup {
//! #         &SingleProcess
//! #     }
//! # }
//! // A loss of Σ x⁴/4, once in f64 and once in f32.
//! let host = |kind| Quartic(Tensor::from_slice(&[1.0, 2.0, 3.0]).to_kind(kind));
//! let config = RegimesConfig { steps: 3, ..RegimesConfig::default() };
//! let mut watch = Watch { interrupter: &Interrupter::default(), gradients: &mut |_| {} };
//! let reference = Reference::measure(&mut host(Kind::Double), Method::Central4, &config, &mut watch)?;
//! let regime = measure(&mut host(Kind::Float), "f32", &reference, &config, &mut watch)?;
//! let random = &regime.directions[0];
//! assert!(random.automatic.error < 1e-3 && random.rows[0].central.is_none_or(|point| point.error > 0.1));
//! assert!(regime.runs[0].worst_deviation() < 0.02);
//! # Ok::<(), hessian_probe::Error>(())
//! ```
//!
//! Products go through the operator that probes use, on a loan that puts parameters, live gradients and random state
//! back bit for bit on every way out.

mod config;
mod degradation;
mod direction;
mod parameters;
mod record;
mod reference;
mod sweep;

pub use config::{Plan, RegimesConfig};
pub use degradation::degrade;
pub use direction::DirectionKind;
pub use parameters::{parameters_are, round_parameters};
pub use record::{
    Best, Choice, Compared, DirectionRecord, NoiseRecord, REGIME_VERSION, Regime, RunRecord, RunSummary,
    SweepPoint, SweepRow,
};
pub use reference::{Method, Reference, ReferenceRecord};
pub use sweep::sweep;

use crate::error::Result;
use crate::host::Host;
use crate::interrupt::Interrupter;

/// Who may end a measurement, and who is told how far it is.
pub struct Watch<'a> {
    /// Ends it at its next product.
    pub interrupter: &'a Interrupter,
    /// Told the gradients of this measurement so far.
    pub gradients: &'a mut dyn FnMut(u64),
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("interrupter", &self.interrupter).finish_non_exhaustive()
    }
}

/// A [`sweep`] and then [`degrade`], for a host that stays in memory.
///
/// # Errors
/// As those two.
pub fn measure(
    host: &mut dyn Host,
    name: &str,
    reference: &Reference,
    config: &RegimesConfig,
    watch: &mut Watch<'_>,
) -> Result<Regime> {
    let mut regime = sweep(host, name, reference, config, watch)?;
    degrade(host, &mut regime, &reference.record, config, watch)?;
    Ok(regime)
}
