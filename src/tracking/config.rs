//! How λ_max is tracked.

use crate::error::{Error, Result};
use crate::schedule::Duration;
use serde::{Deserialize, Serialize};

/// Tracking of the largest eigenvalue between full probes, of H or, where `slq.operator` asks for it, of P^{-1/2} H P^{-1/2};
/// off by default. It keeps one more vector of the size
/// of the shards.
///
/// ```
/// use hessian_probe::ProbeConfig;
///
/// let config = ProbeConfig::from_toml_str("[track]\nevery = 5")?;
/// assert_eq!(config.track.products, 4);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrackConfig {
    /// So often; a step at which a full probe is due is left to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// Hessian-vector products each time, at least 2.
    pub products: usize,
}

impl Default for TrackConfig {
    fn default() -> Self {
        Self { every: None, products: 4 }
    }
}

impl TrackConfig {
    pub(crate) fn validate(&self) -> Result<()> {
        if self.every.is_some_and(Duration::is_zero) {
            return Err(Error::config("track.every", "must be more than 0; leave it out to track nothing"));
        }
        if self.products < 2 {
            let reason = format!("{} is too few to see a change; at least 2", self.products);
            return Err(Error::config("track.products", reason));
        }
        Ok(())
    }
}
