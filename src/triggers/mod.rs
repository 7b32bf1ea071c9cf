//! Probes that start by themselves, and the record from before.
//!
//! At every step one all_reduce gives all ranks the same few numbers: the mean loss, and what rank 0 has of the rest. Each
//! draws the same conclusion from them, so that all probe or none does:
//! - *a loss spike*: the loss of training, the mean over ranks, exceeds the median of the last `window` ones by `loss_spike`
//!   robust standard deviations, z = (L − median) / (1.4826 · MAD), MAD the median of |Lᵢ − median| (Iglewicz & Hoaglin 1993);
//!   or is not a number;
//! - *a margin*: the optimizer's `margin` that `[track]` found, or the `step_ratio` of `[sharpness]`, exceeds a limit;
//! - *a file*: the user touched it; rank 0 looks for it on a thread of its own, and removes it, so that it is heeded once.
//!
//! Then a [`Triggered`] record with the last cheap numbers is written, and a full probe follows at the same step. Spikes and
//! margins then rest for `cooldown` steps. All of it survives a checkpoint.
//!
//! - `config`: `[triggers]`;
//! - `spike`: the robust score;
//! - `state`: what is kept from step to step;
//! - `watch`: the file, without waiting for its disk;
//! - `record`: what is logged.

mod config;
mod record;
mod spike;
mod state;
mod watch;

pub use config::TriggersConfig;
pub use record::{Cause, Recent, Triggered};
pub(crate) use state::Signals;
pub use state::TriggerState;
pub(crate) use watch::FileWatch;
