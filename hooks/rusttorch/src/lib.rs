//! Loops on the [`rusttorch`] crate as hosts for [`hessian_probe`]: its `ShardedTrainer`, whose parameters, gradients and
//! optimizer are sharded over processes, and its `DistributedDataParallel`. Nothing of the crate is changed; the probe
//! borrows the trainer's shards through `optimizer_mut().named_parameters()`, and all ranks talk over its TCP collectives.
//!
//! ```
//! use hessian_probe::{Callback, HessianProbe, ProbeConfig};
//! use hessian_probe_rusttorch::{SharedGroup, ShardedTrainerHost};
//! use rusttorch::distributed::{GroupOptions, ProcessGroup, ShardedTrainer};
//! use rusttorch::{Device, Kind, Tensor, optim::Adam};
//! use std::collections::BTreeMap;
//!
//! // A group of one; with more, the others `connect` to this address.
//! let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! let group = SharedGroup::new(ProcessGroup::accept(listener, 1, GroupOptions::new("guide"))?);
//! let initial = |size: &[i64]| Tensor::f_randn(size, (Kind::Double, Device::Cpu));
//! let parameters = vec![("hidden.weight".to_owned(), initial(&[8, 4])?), ("output.weight".to_owned(), initial(&[1, 8])?)];
//! let mut trainer = ShardedTrainer::new(&mut group.borrow_mut(), parameters, |store| {
//!     Adam::builder().learning_rate(0.01).build(store)
//! })?;
//! let x = Tensor::f_randn([64, 4], (Kind::Double, Device::Cpu))?;
//! let y = x.f_sum_dim_intlist([1].as_slice(), true, None)?;
//! let loss = |p: &BTreeMap<String, Tensor>| -> rusttorch::Result<Tensor> {
//!     let hidden = x.f_matmul(&p["hidden.weight"].f_tr()?)?.f_tanh()?;
//!     Ok(hidden.f_matmul(&p["output.weight"].f_tr()?)?.f_mse_loss(&y, tch::Reduction::Mean)?)
//! };
//!
//! # let directory = std::env::temp_dir().join(format!("hessian-probe-rusttorch-doc-{}", std::process::id()));
//! # let config = format!("[schedule]\nevery = 10\n[slq]\nsteps = 5\n[log]\ndir = {directory:?}");
//! # let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&config)?)?;
//! let mut host = ShardedTrainerHost::new(&mut trainer, &group, loss)?;
//! # /*
//! let mut probe = HessianProbe::from_toml("probe.toml")?;
//! # */
//! probe.on_train_begin(&mut host)?;
//! for step in 0..=10 {
//!     host.trainer().train_step(&mut group.borrow_mut(), loss)?;
//!     probe.on_step_end(step, &mut host)?;
//! }
//! probe.on_train_end(&mut host)?;
//!
//! assert_eq!(probe.latest().map(|snapshot| (snapshot.step, snapshot.parameters)), Some((10, 8 * 4 + 8)));
//! # drop(probe);
//! # std::fs::remove_dir_all(directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/sharded.rs` trains a classifier in two processes in this way.
//!
//! # Data-parallel
//! With `DistributedDataParallel` the parameters are in a `VarStore` on every rank. Their host is
//! `hessian-probe-var-store`'s, over the same group: `VarStoreHost::new(&store, loss)?.over(&group)` with a [`SharedGroup`].
//! The loop of the crate's own example, with these calls, is in `tests/training.rs`.
//!
//! # What belongs to the Hessian
//! All parameters of the trainer, in the order of their names. `rusttorch` pads each to a multiple of the number of ranks;
//! padding is neither perturbed nor counted.
//!
//! # What an evaluation leaves as it was
//! Parameters, by the probe, bit for bit. The shards' `.grad` and the optimizer's moments, which are never touched. Torch's
//! generator, so that dropout masks repeat. What the closure changes elsewhere it has to put back itself. One thing does
//! change: `rusttorch` names its checkpoints (`checkpoint_id`) after the number of collectives so far, and a probe's count.
//!
//! # What it costs
//! As much as a `train_step` for each gradient, in time, in memory (whole parameters and gradients for as long as the closure
//! runs) and on the wire, where `rusttorch` writes tensors as JSON and sends all of it through rank 0. An exact product
//! gathers one whole vector more. Steps without a probe communicate nothing.
//!
//! # When a rank fails
//! | | what happens |
//! |---|---|
//! | the closure fails, or its loss is not finite, on one rank | every rank gets an error that names it; the group stays usable, training continues or stops as configured |
//! | a process ends | the others get an error as soon as its connection closes |
//! | a process hangs | the others get an error after `GroupOptions::timeout` (30 s unless set), which must exceed the time by which ranks drift apart within one evaluation |
//!
//! After the last two the group is closed, in training as in a probe: start again from the last checkpoint.
//!
//! # What is missing
//! `rusttorch` shows its optimizer's moments to nobody but a checkpoint, so a probe says nothing of the optimizer's stability.
//! Its tensors are of f32 or f64, on the CPU.
//!
//! # Build
//! Take `rusttorch` with `default-features = false`: its default feature downloads a libtorch of its own.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod error;
mod evaluation;
mod group;
mod host;
mod parameters;

pub use error::{Error, Result};
pub use group::SharedGroup;
pub use host::ShardedTrainerHost;
