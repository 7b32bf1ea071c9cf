//! A disk that is full, and a process that is killed amid a file.

/// Lets no file of this process become longer than `bytes`: a write then fails, as on a full disk.
pub fn limit_files(bytes: Option<u64>) {
    limit(libc::SIG_IGN, bytes);
}

/// Has the write that would make a file of this process longer than `bytes` kill it, once so many are written.
pub fn die_beyond(bytes: u64) {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a plain system call with valid arguments.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
    limit(libc::SIG_DFL, Some(bytes));
}

fn limit(handler: libc::sighandler_t, bytes: Option<u64>) {
    // SAFETY: plain system calls with valid arguments.
    unsafe {
        libc::signal(libc::SIGXFSZ, handler);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit), 0);
        limit.rlim_cur = bytes.unwrap_or(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}
