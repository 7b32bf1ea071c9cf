//! What a measuring process is told.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One library, one kind of product, one quantity. `benches/peers/measure.py` reads the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub library: String,
    pub products: String,
    pub measure: Measure,
    /// In Hugging Face's form.
    pub model: PathBuf,
    /// Sequences of the same length, one a line.
    pub data: PathBuf,
    /// Vectors of signs, one tensor a parameter.
    pub vectors: Vec<PathBuf>,
    /// Where the product with the first of them, made a unit vector, is to go.
    pub product: PathBuf,
    /// Gradients and products, in turn.
    pub rounds: usize,
    /// Of Lanczos.
    pub steps: usize,
    /// Products at most, where a method goes on until it has converged.
    pub limit: usize,
    pub threads: usize,
}

/// Time is measured by the program as it is, memory with an allocator that returns at once what is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    Time,
    Memory,
}

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub struct Contestant {
    pub library: &'static str,
    /// What the process is told.
    pub products: &'static str,
    /// What readers are told.
    pub how: &'static str,
    pub attention: &'static str,
}

/// This crate.
pub const OURS: &str = "hessian-probe";
pub const AUTO: &str = "auto";
pub const EXACT: &str = "exact";
pub const DIFFERENCE: &str = "difference";
/// With the model's SiLU written as x·σ(x).
pub const REWRITTEN: &str = "rewritten";
/// Of which all errors are told.
pub const REFERENCE: &str = "reference";

/// The reference first.
pub const CONTESTANTS: [Contestant; 8] = [
    contestant(OURS, REFERENCE, "double backward in f64", "plain"),
    contestant(OURS, AUTO, "differences, step and formula for each vector", "fused"),
    contestant(OURS, EXACT, "double backward", "plain"),
    contestant("hessian-eigenthings", EXACT, "double backward", "plain"),
    contestant("hessian-eigenthings", DIFFERENCE, "central differences, fixed step", "fused"),
    contestant("curvlinops", EXACT, "forward over backward", "plain"),
    contestant("curvlinops", REWRITTEN, "forward over backward, SiLU rewritten", "plain"),
    contestant("PyHessian", EXACT, "double backward, one graph kept", "plain"),
];

const fn contestant(
    library: &'static str,
    products: &'static str,
    how: &'static str,
    attention: &'static str,
) -> Contestant {
    Contestant { library, products, how, attention }
}
