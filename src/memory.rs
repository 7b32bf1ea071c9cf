//! What the system tells of this process's memory.

use std::fs;

/// The most physical memory that this process has held since it began, in bytes: `VmHWM` of Linux's
/// `/proc/self/status`. `None` where the system does not tell.
pub(crate) fn peak() -> Option<u64> {
    peak_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The file has one `key: value` a line, sizes in units of 1024 bytes that it calls kB.
fn peak_in(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_among_others_and_nothing_is_made_of_what_is_none() {
        let status = "Name:\tVmHWM\nVmPeak:\t  900 kB\nVmHWM:\t   48700 kB\nVmRSS:\t  40000 kB\n";
        assert_eq!(peak_in(status), Some(48_700 * 1024));
        for strange in
            ["", "VmRSS:\t 3 kB\n", "VmHWM:\t 3 MB\n", "VmHWM:\t-3 kB\n", "VmHWM:\t18446744073709551615 kB"]
        {
            assert_eq!(peak_in(strange), None, "{strange}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_was_held_counts_also_once_it_is_free() {
        let before = peak().unwrap();
        let held = vec![1_u8; 64 << 20];
        assert!(held.iter().step_by(4096).all(|&byte| byte == 1));
        drop(held);
        let after = peak().unwrap();
        assert!(after >= (64 << 20) && after >= before, "{before} {after}");
    }
}
