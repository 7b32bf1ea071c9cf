//! The mathematics against dense oracles.

#[path = "../support/closure_host.rs"]
mod closure_host;
#[path = "../support/dense.rs"]
mod dense;
#[path = "../support/models.rs"]
mod models;

mod blocks;
mod deflation;
mod degenerate;
mod density;
mod lanczos;
mod predictions;
mod products;
mod seeds;
