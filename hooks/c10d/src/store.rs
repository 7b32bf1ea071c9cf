//! The key-value store at which ranks meet, hosted by a process that is not one of them.

use crate::error::{Error, Result};
use crate::ffi::StoreHandle;
use std::fmt;
use std::time::Duration;

/// The server of a `TCPStore`, as torchrun's agent runs it; ends when dropped.
///
/// Ranks started with `MASTER_PORT` = [`port`](Self::port) and `TORCHELASTIC_USE_AGENT_STORE=True` meet
/// here. Compared to a store on rank 0, no free port has to be guessed before it is bound, and the store
/// outlives every rank, so that survivors can still find out who is lost.
///
/// ```
/// use hessian_probe_c10d::StoreServer;
///
/// // What a launcher of one's own hosts, and tells its ranks.
/// let store = StoreServer::host(0)?;
/// let variables = [
///     ("MASTER_ADDR", "127.0.0.1".to_owned()),
///     ("MASTER_PORT", store.port().to_string()),
///     ("TORCHELASTIC_USE_AGENT_STORE", "True".to_owned()),
/// ];
/// # assert_ne!(variables[1].1, "0");
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
pub struct StoreServer {
    _handle: StoreHandle,
    port: u16,
}

impl StoreServer {
    /// Listens on `port` of all interfaces; 0 takes any free one.
    ///
    /// # Errors
    /// Where the port cannot be bound.
    pub fn host(port: u16) -> Result<Self> {
        let (handle, port) = StoreHandle::host(port, Duration::from_secs(30))
            .map_err(|message| Error::Store { port, message })?;
        Ok(Self { _handle: handle, port })
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Debug for StoreServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreServer").field("port", &self.port).finish_non_exhaustive()
    }
}
