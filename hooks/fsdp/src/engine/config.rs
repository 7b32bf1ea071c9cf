//! What a pass trades for memory.

use serde::{Deserialize, Serialize};

/// How a gradient is computed, where its bits do not depend on it.
///
/// ```
/// use hessian_probe_fsdp::PassConfig;
///
/// let config: PassConfig = toml::from_str("recompute = false")?;
/// assert_eq!(config, PassConfig { recompute: false, prefetch: false });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PassConfig {
    /// Run each block a second time in the backward pass (the default): its graph and its gathered parameters live only
    /// while it runs. With `false` the graphs of all blocks, and with them all parameters of the model, are kept from the
    /// forward pass on: a gradient takes three quarters of the operations and half of the gathers.
    pub recompute: bool,
    /// Gather the next block while the present one computes: one block more in memory. For ranks whose transfers do not
    /// take the cores that compute; by default `false`, since on CPUs that have none to spare they do
    /// (`cargo xtask bench` measures it). Without effect on one rank.
    pub prefetch: bool,
}

impl Default for PassConfig {
    fn default() -> Self {
        Self { recompute: true, prefetch: false }
    }
}

impl PassConfig {
    /// Whether all is as by default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
