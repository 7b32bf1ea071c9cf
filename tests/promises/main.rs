//! What the probe promises to a training run, on the sharded trainer with real ranks.

#[path = "../../hooks/fsdp/tests/common/mod.rs"]
mod common;
#[path = "../support/lines.rs"]
mod lines;

mod agreement;
mod directions;
mod failure;
mod faults;
mod faulty;
mod log_directory;
mod non_interference;
mod parts;
mod preconditioned;
mod restore;
mod resumed;
mod sharpness;
mod sidecar;
mod triggers;
mod world_size;
