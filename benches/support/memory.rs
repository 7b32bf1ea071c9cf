//! The memory of this process, and an allocator that hides nothing of it. Studies measure with it, too.

use super::Result;

/// Makes glibc map blocks of more than 64 KiB one by one, and unmap them when they are freed.
pub const MALLOC: [(&str, &str); 3] =
    [("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "65536"), ("MALLOC_ARENA_MAX", "1")];

/// Bytes by a line of Linux's account of this process: resident memory now (`VmRSS:`) or at its peak (`VmHWM:`).
pub fn resident(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The peak while `work` is done: Linux forgets the earlier one on demand (proc_pid_clear_refs(5)). `None` where it does
/// not.
#[allow(dead_code, reason = "where each case has a process of its own, nothing has to be forgotten")]
pub fn peak_of(work: impl FnOnce() -> Result<()>) -> Result<Option<u64>> {
    let forgotten = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    work()?;
    Ok(forgotten.then(|| resident("VmHWM:")).flatten())
}
