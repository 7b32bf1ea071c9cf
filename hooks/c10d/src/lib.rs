//! Ranks over libtorch's own c10d, with torchrun's conventions: the engine that PyTorch's FSDP runs on
//! (Gloo for CPU tensors, NCCL for CUDA tensors), for loops on [`tch`], from nothing but the libtorch that
//! `tch` links already.
//!
//! ```no_run
//! use hessian_probe_c10d::{Launcher, ProcessGroup, ReduceOp, is_launched};
//! use std::time::Duration;
//! use tch::{Device, Kind, Tensor};
//!
//! if !is_launched() {
//!     // Not under torchrun: start this program again as two ranks, and wait for them.
//!     return Launcher::new(2).run()?.into_result();
//! }
//! let group = ProcessGroup::from_env(Duration::from_secs(60))?;
//! let gradient = Tensor::ones([1000], (Kind::Float, Device::Cpu));
//! group.all_reduce(&gradient, ReduceOp::Avg)?;
//! # Ok::<(), hessian_probe_c10d::Error>(())
//! ```
//!
//! `torchrun --no-python --nproc-per-node 2 target/debug/program` starts the same program; without either,
//! [`ProcessGroup::from_env`] gives a group of one. A [`ProcessGroup`] is what a host lends to a probe: it
//! implements [`hessian_probe::ProcessGroup`].
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | `RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT` | as torchrun sets them: all four, or none for a group of one |
//! | `LOCAL_RANK` | this rank's number on its machine; default: `RANK` |
//! | `TORCHELASTIC_USE_AGENT_STORE` | `True`: the launcher hosts the store; else rank 0 does |
//! | `TORCHELASTIC_RESTART_COUNT` | keeps a restarted group apart from its predecessor |
//! | `GLOO_SOCKET_IFNAME` | the network interface that Gloo uses |
//! | `HESSIAN_PROBE_C10D_LABELLED` | set by [`Launcher`] where it puts the rank in front of a rank's lines itself, for [`RankLogger`] |
//! | `HESSIAN_PROBE_C10D_CHECK` | `always` (default) or `first`, see below; equal on all ranks |
//!
//! # What is checked
//!
//! Gloo trusts its callers: a strided tensor gives wrong sums, and sizes that differ between ranks abort
//! the process from a thread where nobody can catch it. Here every call is checked before Gloo sees it:
//!
//! 1. on its own rank: defined, dense, contiguous, a dtype that can be reduced, sizes that fit the world
//!    size, no mean of integers;
//! 2. against the other ranks: every collective opens with one exchange of packets of a fixed size, in
//!    which each rank says what it calls (collective, reduction, dtype, device, elements, root, the number
//!    of the call). Where they differ, **every** rank gets [`Error::Mismatch`], which says who called what.
//!    A rank whose own argument was refused says that instead, and the others get
//!    [`Error::PeerArgument`]. In both cases nothing was reduced and the group remains usable.
//!
//! [`ProcessGroup::start_all_gather_into`] exchanges packets at once, too, and leaves only the data under way.
//!
//! Data of up to 976 bytes (122 `f64`) of CPU tensors travels in the packets themselves, and each rank
//! reduces it in rank order: a small `all_reduce` is checked at no extra cost. A larger call pays one
//! exchange, about 0.2 ms on loopback (`cargo run -p hessian-probe-c10d --example cost` measures it).
//!
//! `HESSIAN_PROBE_C10D_CHECK=first` saves that for calls with a signature that was agreed upon before in
//! this group. Then a rank that is out of step is found by the next small or new call: if the others wait
//! in another collective meanwhile, by the timeout; but if two ranks make *the same* large collective with
//! *different* sizes which both have been used before, Gloo aborts. Use it for loops that are known to be in
//! step.
//!
//! What no setting can find: ranks in step whose tensors mean different things.
//! [`ProcessGroup::monitored_barrier`] opens with no packet, for it is there to find a rank that does not
//! come; a rank that makes another call instead is found by the timeout.
//!
//! # Results
//!
//! Every rank receives the same bits, and the same bits again for the same contributions. A
//! `reduce_scatter_into` gives the slice of what `all_reduce` gives on the same input. Reductions of one
//! tensor on different numbers of ranks, or of its parts instead of the whole, may differ by rounding.
//!
//! # Errors
//!
//! | error | group | ranks that get it |
//! |---|---|---|
//! | [`Error::Argument`], [`Error::PeerArgument`], [`Error::Mismatch`] | usable | all |
//! | [`Error::PeerLost`]: a rank died | closed | all, within milliseconds of each other |
//! | [`Error::TimedOut`]: a rank did not come within the group's timeout | closed | all that came; the late one gets `PeerLost` |
//! | [`Error::Closed`]: any call after that, at once | closed | |
//!
//! A rank whose exchange fails closes its connections, which wakes the others, and then asks the store
//! (for up to one second) which ranks are still there; those that are not are named in the error. That
//! needs a store that outlives the lost rank: always with torchrun and [`Launcher`], else unless rank 0 is
//! the one.
//!
//! # NCCL
//!
//! With the feature `nccl`, CUDA tensors go through `ProcessGroupNCCL` (the opening exchange still goes
//! through Gloo). It needs a libtorch with CUDA, the CUDA headers (`CUDA_HOME`) and NCCL's (there, or
//! `NCCL_HOME`). **This path
//! has been compiled, never run**; as with PyTorch, a call returns when it is enqueued on the current
//! stream, and a rank that is lost or stalls within it is found by NCCL's watchdog, which ends the process.
//!
//! # Linking
//!
//! A package with binaries or tests needs two things of its own, because link arguments do not propagate:
//! a dependency on `torch-sys`, and a `build.rs` that prints
//! `cargo:rustc-link-arg=-Wl,-rpath,$DEP_TCH_LIBTORCH_LIB`.
//!
//! # Files
//!
//! | file | concept |
//! |---|---|
//! | `process_group.rs`, `reduce_op.rs` | a group of ranks and its collectives |
//! | `started.rs` | a collective under way |
//! | `link.rs` | the connection to the other ranks: opening exchange, failure |
//! | `call.rs` | one call: local checks, and the signature that must be equal on all ranks |
//! | `packet.rs` | the packet that opens a collective |
//! | `small.rs` | collectives whose data fits the packets |
//! | `environment.rs` | torchrun's variables |
//! | `store.rs`, `launch.rs`, `ranks.rs` | hosting a store; starting ranks; their processes |
//! | `rank_logger.rs` | a logger that says the rank |
//! | `autograd.rs`, `generator.rs` | `torch::autograd::grad` and generator states, which `tch` lacks |
//! | `error.rs` | all that can go wrong |
//! | `ffi.rs`, `shim/` | the C++ boundary |

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod autograd;
mod call;
mod environment;
mod error;
mod ffi;
pub mod generator;
pub mod launch;
mod link;
mod packet;
pub mod process_group;
mod rank_logger;
mod ranks;
mod reduce_op;
mod small;
mod started;
pub mod store;

pub use autograd::{GradOptions, grad};
pub use error::{Error, Result, Silent};
pub use launch::{Forward, Launcher, Outcome, Output, is_launched};
pub use process_group::{Backend, ProcessGroup};
pub use rank_logger::RankLogger;
pub use reduce_op::ReduceOp;
pub use started::Started;
pub use store::StoreServer;
