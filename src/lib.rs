//! Watch the Hessian spectrum of a language model from inside its training loop, sharded over however
//! many ranks it is.
//!
//! A [`HessianProbe`] is registered in the loop. At scheduled steps it borrows the loop's own parameter
//! shards and gradient buffers, runs stochastic Lanczos quadrature on the Hessian of the loss, with
//! Hessian-vector products by finite differences of the loop's own gradient that each rank computes on
//! its own shard, puts every bit back, and logs a [`Snapshot`]: extreme eigenvalues, trace, norm, spectral
//! density, each with its error. The method is that of Granziol and Juarev, "Hessian Spectral Analysis at
//! Foundation Model Scale" (arXiv 2602.00816).
//!
//! # Where a loop calls
//! ```text
//!  probe = HessianProbe::from_toml("probe.toml")?          unknown keys and impossible values end here
//!    │
//!    ├─ probe.on_train_begin(&mut host)?                   shards, log directory: checked on all ranks
//!    │
//!  ┌─┴─ for step in start..steps ──────────────────────┐
//!  │   forward, backward                               │
//!  │   ├─ on_before_optimizer_step(step, &mut host)?   │   the gradient is live and would be kept
//!  │   optimizer                                       │
//!  │   ├─ on_step_end(step, &mut host)?  ◀─────────────┼── the probe: at once, unless one is due
//!  │   checkpoint, sometimes                           │
//!  │   └─ on_save_checkpoint(step, directory, ..)?     │
//!  └───────────────────────────────────────────────────┘
//!    │
//!    ├─ on_exception(&error)                               on the way out of a failed loop
//!    └─ probe.on_train_end(&mut host)?                     a last probe if asked for; the logs are written
//! ```
//! What the loop lends is a [`Host`]: its shards, its gradient, its group of ranks. The crates
//! `hessian-probe-fsdp` (a fully sharded trainer), `hessian-probe-var-store` (any loop on a `VarStore`),
//! `hessian-probe-rusttorch` (that crate's `ShardedTrainer`) and `hessian-probe-c10d` (ranks over libtorch's own collectives)
//! are hosts and groups ready to use.
//!
//! ```
//! use hessian_probe::{Callback, Gradient, HessianProbe, Host, HostError, ProbeConfig};
//! use hessian_probe::{ProcessGroup, Shard, SingleProcess};
//! use tch::Tensor;
//!
//! /// A loop whose loss is x²/2 + 2y².
//! struct Valley(Tensor);
//!
//! impl Host for Valley {
//!     fn shards(&self) -> Vec<Shard> {
//!         Shard::whole([("xy".to_owned(), self.0.shallow_clone())], false)
//!     }
//!     fn gradient(&mut self) -> Result<Gradient, HostError> {
//!         let scale = Tensor::from_slice(&[1.0, 4.0]);
//!         let gradient = self.0.f_mul(&scale)?;
//!         let loss = gradient.f_dot(&self.0)?.f_double_value(&[])? / 2.0;
//!         Ok(Gradient { loss, tensors: vec![gradient] })
//!     }
//!     fn group(&self) -> &dyn ProcessGroup {
//!         &SingleProcess
//!     }
//! }
//!
//! # let directory = std::env::temp_dir().join(format!("hessian-probe-doc-{}", std::process::id()));
//! # let config = format!("[schedule]\nevery = 5\n[slq]\nsteps = 2\n[log]\ndir = {directory:?}");
//! # let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&config)?)?;
//! let mut host = Valley(Tensor::from_slice(&[3.0, 1.0]));
//! # /*
//! let mut probe = HessianProbe::from_toml("probe.toml")?;
//! # */
//! probe.on_train_begin(&mut host)?;
//! for step in 0..10 {
//!     let _ = host.0.f_mul_(&Tensor::from_slice(&[0.9, 0.6]))?;   // gradient descent
//!     probe.on_step_end(step, &mut host)?;
//! }
//! probe.on_train_end(&mut host)?;
//!
//! let snapshot = probe.latest().unwrap();
//! assert_eq!(snapshot.step, 5);
//! assert!((snapshot.lambda_max.value - 4.0).abs() <= snapshot.lambda_max.residual + 1e-6);
//! assert!((snapshot.trace.mean - 5.0).abs() < 1e-6);
//! # drop(probe);
//! # std::fs::remove_dir_all(directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Promises
//! 1. *Non-interference.* A run with probes has the same losses, parameters, optimizer state and random
//!    numbers, bit for bit, as the same run without.
//! 2. *World-size invariance.* Probe vectors depend on global indices only; 1, 2 or 4 ranks give the same
//!    spectrum up to rounding.
//! 3. *Honest numbers.* Every estimate comes with its error: the predicted error of the products, residuals,
//!    standard errors, the share of the spectrum that is not resolved.
//! 4. *Bounded cost.* Memory: θ₀, g₀, one vector of work, live gradients where there are any, and the
//!    Lanczos basis that was asked for. Time: the gradients and a few per cent. A step without a probe:
//!    microseconds, and no communication.
//! 5. *Survival.* Whatever the host's closure does, parameters are restored. A failure on one rank reaches
//!    all of them; training continues or stops as configured.
//!
//! # From the top to the bottom
//! | module | what it does |
//! |---|---|
//! | [`callback`], [`host`], [`group`] | what we offer a loop, what it lends, how ranks talk |
//! | [`config`], [`schedule`], [`budget`] | what a user can set |
//! | [`spectrum`] | quadrature, statistics with errors, the snapshot |
//! | [`cost`] | what a probe takes in time and memory, before it runs |
//! | [`blocks`] | how much of the Hessian is block-diagonal |
//! | [`optimizer`] | curvature as the loop's optimizer sees it, and the largest that it bears |
//! | [`directions`] | curvature along the gradient, the update, a vector of the user's |
//! | [`sharpness`] | how far along the update the loss may go, by forward passes: cheap enough for every step |
//! | [`tracking`] | λ_max between probes |
//! | [`triggers`] | probes that start by themselves, and the record from before |
//! | [`krylov`] | Lanczos, the basis, the tridiagonal eigenproblem |
//! | [`regimes`] | where products are to be trusted: sweeps of steps in several precisions against a reference |
//! | [`operator`] | v ↦ Hv by differences, and the step for each v |
//! | [`sharded`] | vectors that live in shards, and probe vectors by global index |
//! | [`checkpoint`] | our state beside a checkpoint |
//! | [`log`] | the writer thread, JSON lines, TensorBoard event files |
//!
//! # Features
//! None is needed. `doc-only` builds this documentation where there is no libtorch, and nothing else. What is written for
//! TensorBoard is a matter of the [configuration](config::LogConfig), CUDA one of the libtorch that is linked.
//!
//! # Messages
//! Through the `log` crate, each with its module as target (`hessian_probe::probe`, `hessian_probe::slq`, …): one line a probe
//! at *info*, on rank 0; what a snapshot is to be read with care for, and a skipped probe with its reason, at *warn*; runs,
//! blocks and tracked eigenvalues at *debug*. Nothing is printed. `RankLogger` of `hessian-probe-c10d` puts the rank in front of
//! every line, whichever logger a program has.

// A library logs; what is printed is the program's business.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod blocks;
pub mod budget;
pub mod callback;
pub mod checkpoint;
mod clock;
pub mod config;
pub mod cost;
pub mod directions;
mod error;
pub mod group;
mod hash;
pub mod host;
mod interrupt;
pub mod krylov;
pub mod log;
mod memory;
pub mod operator;
pub mod optimizer;
mod probe;
mod progress;
pub mod regimes;
pub mod schedule;
pub mod sharded;
pub mod sharpness;
mod slq;
pub mod spectrum;
pub mod tracking;
pub mod triggers;

pub use callback::{Callback, Control};
pub use config::{OnError, ProbeConfig};
pub use error::{Error, Result};
pub use group::{HostError, ProcessGroup, ReduceOp, SingleProcess};
pub use host::{Gradient, Host, Precision, Progress, RandomState, Shard, Update};
pub use interrupt::Interrupter;
pub use optimizer::{Optimizer, OptimizerKind};
pub use probe::HessianProbe;
pub use progress::{BlocksProgress, ProbeProgress};
pub use spectrum::Snapshot;
