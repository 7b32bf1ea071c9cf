//! The memory of this process, and an allocator that hides nothing of it.

/// Makes glibc map blocks of more than 64 KiB one by one, and unmap them when they are freed.
pub const MALLOC: [(&str, &str); 3] =
    [("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "65536"), ("MALLOC_ARENA_MAX", "1")];

/// Bytes by a line of Linux's account of this process: resident memory now (`VmRSS:`) or at its peak (`VmHWM:`).
pub fn resident(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
