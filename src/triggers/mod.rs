//! Probes that start by themselves, and the record from before.
//!
//! At every step rank 0 decides, and one all_reduce of a few numbers tells the others, so that all probe or none does:
//! - *a loss spike*: the loss of training, the mean over ranks, exceeds the median of the last `window` ones by `loss_spike`
//!   robust standard deviations, z = (L − median) / (1.4826 · MAD), MAD the median of |Lᵢ − median| (Iglewicz & Hoaglin 1993);
//!   or is not a number;
//! - *a margin*: the optimizer's `margin` that `[track]` found, or the `step_ratio` of `[sharpness]`, exceeds a limit;
//! - *a file*: the user touched it; it is removed, so that it is heeded once.
//!
//! Then a [`Triggered`] record with the last cheap numbers is written, and a full probe follows at the same step. Spikes and
//! margins then rest for `cooldown` steps. All of it survives a checkpoint.
//!
//! - `config`: `[triggers]`;
//! - `spike`: the robust score;
//! - `state`: what is kept from step to step;
//! - `record`: what is logged.

mod config;
mod record;
mod spike;
mod state;

pub use config::TriggersConfig;
pub use record::{Cause, Recent, Triggered};
pub(crate) use state::Signals;
pub use state::TriggerState;
