//! Ending a probe from outside of it: from a signal handler, say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A handle by which another thread, or a signal handler, ends the probe that is running: at its next
/// product, on all ranks together, with everything restored. The callback then returns
/// [`Control::RequestStop`](crate::Control::RequestStop), so that the loop can save and end.
///
/// Setting it while no probe runs stops the next one that is due as soon as it begins. It stays set.
#[derive(Clone, Debug, Default)]
pub struct Interrupter(Arc<AtomicBool>);

impl Interrupter {
    /// Asks for the end of the probe. Safe to call in a signal handler: it stores one atomic flag.
    pub fn interrupt(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.0.load(Relaxed)
    }
}
