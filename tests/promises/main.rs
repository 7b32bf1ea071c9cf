//! What the probe promises to a training run, on the sharded trainer with real ranks.

#[path = "../../hooks/fsdp/tests/common/mod.rs"]
mod common;

mod directions;
mod failure;
mod faults;
mod faulty;
mod non_interference;
mod preconditioned;
mod resumed;
mod sharpness;
mod triggers;
mod world_size;
