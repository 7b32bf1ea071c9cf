//! What is kept of the reports.

use hessian_probe::Snapshot;
use hessian_probe::blocks::BlockDiagonal;
use hessian_probe::spectrum::{Estimate, Extreme};
use serde::{Deserialize, Serialize};

/// All that the study measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Study {
    /// Tokens of the sequence that SmolLM2 is probed on.
    pub tokens: usize,
    /// Lanczos steps for each probe vector.
    pub steps: usize,
    /// Ranks that the models were sharded over.
    pub ranks: usize,
    /// SmolLM2-135M.
    pub texts: Vec<OnText>,
    /// The demo's model, blocks by layer.
    pub training: Vec<AtStep>,
}

/// The Hessian on one text.
#[derive(Debug, Serialize, Deserialize)]
pub struct OnText {
    /// The text.
    pub text: String,
    /// Its spectrum.
    pub spectrum: Spectrum,
    /// Blocks are layers.
    pub layers: Comparison,
    /// Blocks are kinds of parameters.
    pub kinds: Comparison,
}

/// The Hessian after one step of training.
#[derive(Debug, Serialize, Deserialize)]
pub struct AtStep {
    /// The step, from 0.
    pub step: u64,
    /// The spectrum there.
    pub spectrum: Spectrum,
    /// Blocks are layers.
    pub layers: Comparison,
}

/// A snapshot's main numbers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spectrum {
    pub parameters: u64,
    pub loss: f64,
    pub gradient_norm: f64,
    pub lambda_max: Extreme,
    pub lambda_min: Extreme,
    pub trace: Estimate,
    pub frobenius_norm: Estimate,
    /// The median over products.
    pub predicted_error: f64,
    /// What the snapshot warned of.
    pub warnings: Vec<String>,
}

/// A comparison of H with its block-diagonal part.
#[derive(Debug, Serialize, Deserialize)]
pub struct Comparison {
    pub method: String,
    pub vectors: usize,
    pub relative_error: Option<Estimate>,
    pub cosine: Option<Estimate>,
    pub off_diagonal_share: Option<Estimate>,
    /// Along the gradient: relative error and cosine.
    pub gradient_relative_error: Option<Estimate>,
    pub gradient_cosine: Option<Estimate>,
    /// By how much the products' errors may change `relative_error`.
    pub predicted_error: f64,
    pub hvps: u64,
    pub blocks: Vec<Block>,
}

/// A diagonal block.
#[derive(Debug, Serialize, Deserialize)]
pub struct Block {
    pub name: String,
    pub parameters: u64,
    pub trace: Estimate,
    pub frobenius_norm: Option<Estimate>,
    pub share: Option<Estimate>,
    pub lambda_max: Option<Extreme>,
    pub lambda_min: Option<Extreme>,
}

impl From<&Snapshot> for Spectrum {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            parameters: snapshot.parameters,
            loss: snapshot.loss,
            gradient_norm: snapshot.gradient_norm,
            lambda_max: snapshot.lambda_max,
            lambda_min: snapshot.lambda_min,
            trace: snapshot.trace,
            frobenius_norm: snapshot.frobenius_norm,
            predicted_error: snapshot.hvp.predicted_error_median,
            warnings: snapshot.warnings.clone(),
        }
    }
}

impl Comparison {
    /// That of a snapshot for which blocks were asked for.
    ///
    /// # Errors
    /// Where it has none.
    pub fn of(snapshot: &Snapshot) -> Result<Self, String> {
        let blocks = snapshot.block_diagonal.as_ref();
        blocks.map(Self::from).ok_or_else(|| format!("step {}: no blocks were compared", snapshot.step))
    }
}

impl From<&BlockDiagonal> for Comparison {
    fn from(found: &BlockDiagonal) -> Self {
        let block = |block: &hessian_probe::blocks::BlockRecord| Block {
            name: block.name.clone(),
            parameters: block.parameters,
            trace: block.trace,
            frobenius_norm: block.frobenius_norm,
            share: block.share,
            lambda_max: block.lambda_max,
            lambda_min: block.lambda_min,
        };
        let gradient = found.gradient.as_ref();
        Self {
            method: found.method.clone(),
            vectors: found.vectors,
            relative_error: found.relative_error,
            cosine: found.cosine,
            off_diagonal_share: found.off_diagonal_share,
            gradient_relative_error: gradient.and_then(|along| along.relative_error),
            gradient_cosine: gradient.and_then(|along| along.cosine),
            predicted_error: found.predicted_error,
            hvps: found.hvps,
            blocks: found.blocks.iter().map(block).collect(),
        }
    }
}
