//! Checkpoints: written by all ranks, whole or not there at all, read on any number of ranks.
//!
//! ```no_run
//! # fn run(config: hessian_probe_fsdp::TrainerConfig, group: hessian_probe_c10d::ProcessGroup,
//! #        corpus: hessian_probe_fsdp::Corpus) -> hessian_probe_fsdp::Result<()> {
//! use hessian_probe_fsdp::Trainer;
//! use std::path::Path;
//!
//! // With `[checkpoint] dir = "run", every = 100, keep = 3` in the configuration, `run` saves by itself.
//! let mut trainer = Trainer::new(config, group, corpus)?;
//! trainer.resume_latest(Path::new("run"), &mut [])?; // does nothing the first time
//! trainer.run(1000 - trainer.steps_done(), &mut [], |_| {})?;
//! # Ok(())
//! # }
//! ```
//!
//! # On disk
//!
//! ```text
//! DIR/
//!   step-00000200/                           a checkpoint after 200 steps
//!     rank-00000-of-00002.safetensors        what rank 0 owned of parameters and moments; its random state
//!     rank-00001-of-00002.safetensors
//!     hessian_probe/…                        whatever callbacks wrote
//!     manifest.json                          what the above must be, with checksums
//!   .staging-step-00000300-5d1c9a02b7e4/     one that is being written, or was when its writer ended
//!   .replaced-step-00000200-…/               one whose step is being saved again
//!   .deleting-step-00000100-…/               one that is being deleted
//! ```
//!
//! **A rank's file** is in the [safetensors](https://github.com/huggingface/safetensors) format, which any
//! reader of it opens. Tensors are one-dimensional slices of flattened parameters, under
//! `parameter/NAME`, `exp_avg/NAME` and `exp_avg_sq/NAME` (AdamW's moments), little-endian, in that order (but
//! wider types first) and then that of the model's blocks; slices of no elements are left out. `random_state` (bytes) is last.
//!
//! **The manifest** is JSON, `{"crc32c": C, "manifest": M}`, with fixed white space around `M`, so that the
//! checksum `C` (eight hexadecimal digits) is that of the very bytes of `M`:
//!
//! | key of `M` | meaning |
//! |---|---|
//! | `format`, `version` | `"hessian-probe-fsdp checkpoint"`, 1 |
//! | `step`, `tokens`, `optimizer_steps`, `world_size` | how far training was, on how many ranks |
//! | `config` | the run's configuration: model, optimizer settings, schedule, seed, … |
//! | `parameters` | name, shape and dtype of each parameter, in order; `moments_dtype` where that is another |
//! | `ranks` | for each rank its `file`, its `slices` (`state`, index of the `parameter`, `start` and `len` in elements of the flattened parameter, `offset` in bytes of the file), and where its random state lies |
//! | `files` | those of callbacks |
//! | `callbacks` | what callbacks returned from `state_dict` |
//!
//! A file is given by `path`, length in `bytes`, and the CRC-32C of every `chunk_bytes` bytes: a range is
//! read, and checked, without the rest of the file. Slices cover every parameter exactly once; a manifest in
//! which they do not is refused.
//!
//! # Atomicity
//!
//! 1. Rank 0 removes what earlier writers left behind, gives a checkpoint its name back that was moved aside for a
//!    successor which never came, and creates the staging directory.
//! 2. Every rank writes and syncs its file.
//! 3. Callbacks write theirs; rank 0 syncs them.
//! 4. Rank 0 writes the manifest under a temporary name, syncs and renames it, and syncs the directory.
//! 5. It renames the directory and syncs its parent. Only now there is a checkpoint.
//!
//! After each of these the ranks agree that all have succeeded, or all return an error and the staging
//! directory is removed. A process that is killed leaves a hidden directory that nothing takes for a
//! checkpoint and that the next save removes. Should the disk or a copy damage a checkpoint later, length
//! and checksums tell: [`latest`] and [`Trainer::resume_latest`](crate::Trainer::resume_latest) pass it over.
//!
//! Where a checkpoint of the same step exists, it is renamed to `.replaced-…` before step 5, and counts as
//! a checkpoint until its successor is in place.
//!
//! # Models that were made elsewhere
//! [`ModelSource`] opens them: [`huggingface`] and [`gguf`] say what is read.

// Tensors go to files as they are in memory, and safetensors is little-endian.
#[cfg(target_endian = "big")]
compile_error!("checkpoints are written on little-endian machines only");

mod agreement;
mod atomic;
mod checksum;
mod compatible;
mod config;
pub mod gguf;
mod header;
pub mod huggingface;
mod latest;
mod load;
pub mod manifest;
mod mapped;
mod names;
mod open;
mod rank_file;
mod retention;
mod save;
mod source;

pub(crate) use agreement::agree;
pub use config::{CheckpointConfig, OnSaveError};
pub use latest::latest;
pub use manifest::Manifest;
pub use open::Checkpoint;
pub use retention::retain;
pub use source::ModelSource;
