//! A disk that is full for a while: this process may not make files longer than a few kilobytes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Longer than nothing, so that a file is begun; shorter than any rank's part of a checkpoint.
const ROOM: libc::rlim_t = 4096;

/// Lets a write that goes too far fail with an error, not with a signal.
pub fn errors_not_signals() {
    // SAFETY: to ignore a signal needs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Whether it is.
static FULL: AtomicBool = AtomicBool::new(false);

/// Fills the disk, as far as this process can tell.
pub fn fill() -> io::Result<()> {
    FULL.store(true, Relaxed);
    limit(Some(ROOM))
}

/// Makes room again, where [`fill`] took it.
pub fn make_room() -> io::Result<()> {
    if FULL.swap(false, Relaxed) { limit(None) } else { Ok(()) }
}

/// Limits the length of files to `most`, or to what the system allows.
fn limit(most: Option<libc::rlim_t>) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through both calls.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) == 0 && {
            limit.rlim_cur = most.unwrap_or(limit.rlim_max);
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) == 0
        }
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}
