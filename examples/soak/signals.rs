//! Signals: those that the supervisor sends to ranks, and the one that ranks take as a request to end.

use hessian_probe::Interrupter;
use std::sync::OnceLock;

/// Sends `signal` to a child. One that has ended already gets none.
pub fn send(process: i32, signal: libc::c_int) {
    if process > 1 {
        // SAFETY: a system call without pointers.
        unsafe { libc::kill(process, signal) };
    }
}

static INTERRUPTER: OnceLock<Interrupter> = OnceLock::new();

extern "C" fn on_sigterm(_: libc::c_int) {
    if let Some(interrupter) = INTERRUPTER.get() {
        interrupter.interrupt();
    }
}

/// Has SIGTERM end the probe that is running, or the next one.
pub fn interrupt_on_sigterm(interrupter: Interrupter) {
    if INTERRUPTER.set(interrupter).is_ok() {
        // SAFETY: the handler reads a static that is set, and stores an atomic flag.
        unsafe { libc::signal(libc::SIGTERM, on_sigterm as *const () as libc::sighandler_t) };
    }
}
