//! Any training loop on a [`tch::nn::VarStore`], in one process or data-parallel, as a host for
//! [`hessian_probe`].
//!
//! A loop gives its store and a closure that computes the loss of a fixed probe batch:
//!
//! ```
//! use hessian_probe::{Callback, HessianProbe, ProbeConfig};
//! use hessian_probe_var_store::VarStoreHost;
//! use tch::nn::{self, Module, OptimizerConfig};
//! use tch::{Device, Kind, Tensor};
//!
//! let vs = nn::VarStore::new(Device::Cpu);
//! let net = nn::seq()
//!     .add(nn::linear(vs.root() / "hidden", 4, 8, Default::default()))
//!     .add_fn(|x| x.tanh())
//!     .add(nn::linear(vs.root() / "output", 8, 1, Default::default()));
//! let x = Tensor::randn([64, 4], (Kind::Float, Device::Cpu));
//! let y = x.sum_dim_intlist([1].as_slice(), true, None);
//! let mut optimizer = nn::Adam::default().build(&vs, 1e-2)?;
//!
//! # let directory = std::env::temp_dir().join(format!("hessian-probe-var-store-doc-{}", std::process::id()));
//! # let config = format!("[schedule]\nevery = 10\n[slq]\nsteps = 5\n[log]\ndir = {directory:?}");
//! # let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&config)?)?;
//! let mut host = VarStoreHost::new(&vs, || net.forward(&x).mse_loss(&y, tch::Reduction::Mean))?;
//! # /*
//! let mut probe = HessianProbe::from_toml("probe.toml")?;
//! # */
//! probe.on_train_begin(&mut host)?;
//! for step in 0..=10 {
//!     optimizer.backward_step(&net.forward(&x).mse_loss(&y, tch::Reduction::Mean));
//!     probe.on_step_end(step, &mut host)?;
//! }
//! probe.on_train_end(&mut host)?;
//!
//! assert_eq!(probe.latest().map(|snapshot| (snapshot.step, snapshot.parameters)), Some((10, 4 * 8 + 8 + 8 + 1)));
//! # drop(probe);
//! # std::fs::remove_dir_all(directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Data-parallel, every rank with a part of the probe batch: `VarStoreHost::new(&vs, loss)?.over(&group)`, where
//! the group is a [`hessian_probe_c10d::ProcessGroup`] or any other [`hessian_probe::ProcessGroup`].
//!
//! # What belongs to the Hessian
//! The variables of the store that require a gradient, in the order of their names: the same on every rank, whatever
//! their groups in the optimizer. Frozen ones are constants. The layer that a parameter belongs to is its name up to the first
//! number: `layers.0.attn.weight` is of `layers.0`.
//!
//! Over several ranks the loss is the mean over ranks of each rank's loss, as in data-parallel training; give each rank
//! equally many targets, or scale by what it has.
//!
//! # Smooth activations
//! A Hessian needs a loss that is twice differentiable. ReLU's kinks are no curvature to double backward, but they are to
//! differences of gradients, as large as the step is small: predicted errors are large, and the snapshot warns. The
//! curvature of such a network between its kinks comes from `[hvp] difference = "exact"`; tanh, GELU and SiLU have no
//! kinks.
//!
//! # What an evaluation leaves as it was
//! | | how |
//! |---|---|
//! | parameters | by the probe, bit for bit |
//! | `.grad` of each parameter | never touched: gradients go to tensors of their own; an undefined one stays undefined |
//! | buffers of the store (running statistics of batch norm, counters) | copied before, copied back after each call of the closure, also after an error or a panic |
//! | random generators, of the CPU and of the store's device | likewise, so that all evaluations of a probe have the same dropout masks, and training's next draw is the one that it would have been |
//!
//! What the closure changes outside the store (a data loader's position, a tensor of its own) it has to put back itself: it is
//! called dozens of times a probe, and must give the same loss each time.
//!
//! The generators are torch's own, one a device for all threads: do not draw from them in another thread during a probe.
//!
//! # Borrowing
//! The host borrows what the closure borrows, not the store. Where a loop needs its model mutably between probes, make the
//! host in the call: `probe.on_step_end(step, &mut VarStoreHost::new(&vs, || …)?)?`. That takes microseconds.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod agreement;
pub mod derivatives;
mod error;
mod evaluation;
mod host;
mod loss;
mod mean;
mod variables;

pub use agreement::{Outcome, agree};
pub use error::{During, Error, Result};
pub use host::VarStoreHost;
pub use loss::Loss;
