//! The mathematics against dense oracles.

#[path = "../support/closure_host.rs"]
mod closure_host;
#[path = "../support/dense.rs"]
mod dense;
#[path = "../support/mixed.rs"]
mod mixed;
#[path = "../support/models.rs"]
mod models;

mod block_costs;
mod blocks;
mod costs;
mod deflation;
mod degenerate;
mod density;
mod directions;
mod forward;
mod lanczos;
mod optimizers;
mod preconditioned;
mod predictions;
mod products;
mod realised;
mod seeds;
mod sharpness;
mod sources;
mod tracking;
mod trials;
