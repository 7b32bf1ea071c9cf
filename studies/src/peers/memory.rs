//! Resident memory of this process, in bytes, as Linux tells it.

use crate::Result;
use std::fs;

/// Now; `None` where the system does not tell.
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The peak while `work` is done: Linux forgets the earlier one on demand (proc_pid_clear_refs(5)).
///
/// # Errors
/// Those of `work`.
pub fn peak_of(work: impl FnOnce() -> Result<()>) -> Result<Option<u64>> {
    let forgotten = fs::write("/proc/self/clear_refs", "5").is_ok();
    work()?;
    Ok(forgotten.then(|| status("VmHWM:")).flatten())
}

fn status(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
