//! The processor's time of this process.

use crate::Result;

/// Seconds of the processor that all threads of this process have had: what other programs take away does not count.
///
/// # Errors
/// The system's.
pub fn seconds() -> Result<f64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to the value that it is given, which outlives the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64)
}

/// What `work` takes of them.
///
/// # Errors
/// Its own, and the system's.
pub fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let started = seconds()?;
    let done = work()?;
    Ok((done, seconds()? - started))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn sleeping_takes_no_time_of_the_processor() {
        let sleep = || {
            std::thread::sleep(Duration::from_millis(50));
            Ok(())
        };
        // Other tests of this process may work meanwhile, but not for long.
        let slept = (0..40).map(|_| time(sleep).unwrap().1).find(|seconds| *seconds < 0.02);
        let (_, worked) =
            time(|| Ok((0..5_000_000_u64).fold(0, |sum, i| sum ^ i.wrapping_mul(i + sum)))).unwrap();
        assert!(slept.is_some() && worked > 0.0, "{slept:?} {worked}");
    }
}
