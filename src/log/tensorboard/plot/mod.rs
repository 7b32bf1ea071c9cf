//! The spectral density as images: over steps, and at one.
//!
//! TensorBoard gives each image a title and a description, so the images hold curves, ticks and numbers, and need no other
//! text. They are drawn on the writer thread, so that training does not wait for a heat map of some hundred densities:
//! - `canvas`: pixels of few colours, and their PNG;
//! - `glyphs`: the digits;
//! - `frame`: the plotting area and its ticks;
//! - `density`, `heat_map`: the two figures;
//! - `history`: what the heat map remembers of steps before.

mod canvas;
mod density;
mod frame;
mod glyphs;
mod heat_map;
mod history;

pub(super) use canvas::Png;
pub(super) use history::History;
