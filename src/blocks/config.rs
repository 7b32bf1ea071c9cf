//! `[blocks]`: what of the block-diagonal part is measured, and what it may cost.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The fewest products of any plan: one vector, its product and two draws of signs.
pub const LEAST_HVPS: u64 = 3;

/// How much of the Hessian is block-diagonal, and what the blocks are like. Off by default; a section `[blocks]` that says
/// neither `by` nor `patterns` means layers.
///
/// ```
/// let config = hessian_probe::ProbeConfig::from_toml_str(
///     r#"
///     [blocks]
///     by = "layer"          # or "tensor", "kind"; or patterns, as below
///     spectrum_steps = 5
///     max_hvps = 500
///     "#,
/// )?;
/// assert!(config.blocks.is_on());
///
/// hessian_probe::ProbeConfig::from_toml_str(
///     r#"
///     [[blocks.patterns]]
///     name = "queries and keys"
///     patterns = ["*.q_proj.*", "*.k_proj.*"]
///
///     [[blocks.patterns]]
///     name = "layers"
///     patterns = ["model.layers.*"]
///     "#,
/// )?;
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Section")]
pub struct BlocksConfig {
    /// What a block is; a layer in a section that says nothing of it.
    pub by: By,
    /// How the block-diagonal part is applied to a vector.
    pub method: Method,
    /// Rademacher vectors; two or more give standard errors.
    pub vectors: usize,
    /// Draws of signs for each vector by the stochastic method; at least 2.
    pub draws: usize,
    /// Whether to compare along the gradient, too.
    pub along_gradient: bool,
    /// Lanczos steps for the spectrum of each diagonal block; 0: no spectra.
    pub spectrum_steps: usize,
    /// The most Hessian-vector products to take, those that are taken again included. A plan that needs more is
    /// reduced (see [`Plan`](super::Plan)), and the record says what was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_hvps: Option<u64>,
    /// Only at every so many probes, from the first on.
    pub every: u64,
    /// Blocks by the parameters' names: the first pattern that matches decides; what none matches is the block
    /// `other`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<NamedPatterns>,
}

impl Default for BlocksConfig {
    fn default() -> Self {
        Self {
            by: By::None,
            method: Method::Auto,
            vectors: 4,
            draws: 8,
            along_gradient: true,
            spectrum_steps: 10,
            max_hvps: None,
            every: 1,
            patterns: Vec::new(),
        }
    }
}

/// A `[blocks]` as it is written: whoever writes one wants blocks, whether `by` is there or not.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    by: Option<By>,
    method: Method,
    vectors: usize,
    draws: usize,
    along_gradient: bool,
    spectrum_steps: usize,
    max_hvps: Option<u64>,
    every: u64,
    patterns: Vec<NamedPatterns>,
}

impl Default for Section {
    fn default() -> Self {
        let BlocksConfig {
            by: _,
            method,
            vectors,
            draws,
            along_gradient,
            spectrum_steps,
            max_hvps,
            every,
            patterns,
        } = BlocksConfig::default();
        Self { by: None, method, vectors, draws, along_gradient, spectrum_steps, max_hvps, every, patterns }
    }
}

impl From<Section> for BlocksConfig {
    fn from(section: Section) -> Self {
        let Section { by, method, vectors, draws, along_gradient, spectrum_steps, max_hvps, every, patterns } =
            section;
        let by = by.unwrap_or(if patterns.is_empty() { By::Layer } else { By::None });
        Self { by, method, vectors, draws, along_gradient, spectrum_steps, max_hvps, every, patterns }
    }
}

/// What a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// There are none, or those of `patterns`.
    #[default]
    None,
    /// What the host calls one: [`Shard::block`](crate::Shard::block).
    Layer,
    /// A parameter.
    Tensor,
    /// Attention, MLP, embedding (the output projection included) or norms, by the names that are usual
    /// ([`kind`](super::partition::kind)).
    Kind,
}

/// How the block-diagonal part is applied to a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Exact where there are no more blocks than draws, else stochastic.
    #[default]
    Auto,
    /// A product for each block.
    Exact,
    /// A product for each draw of signs.
    Stochastic,
}

/// A block, and the parameters that belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedPatterns {
    /// The block's name.
    pub name: String,
    /// Whole names of parameters, in which `*` stands for any characters, dots included.
    pub patterns: Vec<String>,
}

impl BlocksConfig {
    /// Whether there is anything to measure.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.by != By::None || !self.patterns.is_empty()
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let bad = |key: &str, reason: String| Err(Error::config(format!("blocks.{key}"), reason));
        if self.by != By::None && !self.patterns.is_empty() {
            return bad("patterns", "stands beside `by`; only one of the two can say what a block is".into());
        }
        for (index, block) in self.patterns.iter().enumerate() {
            if block.name.is_empty() {
                return bad("patterns", "a block needs a name".into());
            }
            if block.patterns.is_empty() {
                return bad("patterns", format!("the block `{}` has no patterns", block.name));
            }
            if self.patterns[..index].iter().any(|earlier| earlier.name == block.name) {
                return bad("patterns", format!("two blocks are called `{}`", block.name));
            }
        }
        if self.vectors == 0 {
            return bad("vectors", "must be at least 1".into());
        }
        if self.draws < 2 {
            return bad("draws", "must be at least 2: one draw of signs cannot tell its own spread".into());
        }
        if self.every == 0 {
            return bad("every", "must be at least 1".into());
        }
        match self.max_hvps {
            Some(most) if most < LEAST_HVPS => bad(
                "max_hvps",
                format!("{most} is less than the smallest plan needs: {LEAST_HVPS} Hessian-vector products"),
            ),
            _ => Ok(()),
        }
    }
}
