//! The user's file, looked for by a thread of its own: training waits for no disk, which may be a network's.

use std::fs;
use std::io::{self, ErrorKind::NotFound};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two looks: short for a user.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether the file has appeared. Dropping it ends the looking, and waits for nothing either.
#[derive(Debug)]
pub(crate) struct FileWatch {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// The file was there, and no step has heeded it yet.
    touched: AtomicBool,
    ended: AtomicBool,
}

impl FileWatch {
    /// Looks now and then for the file from here on, and removes it when it is there.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(path: PathBuf) -> io::Result<Self> {
        let mut file = Watched { path, heeded: None };
        Self::looking(move |touched| file.look(touched))
    }

    /// `look` sets the flag that it is given, or leaves it as it is.
    fn looking(mut look: impl FnMut(&AtomicBool) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("hessian-probe-file".into()).spawn(move || {
            while !of_thread.ended.load(Ordering::SeqCst) {
                look(&of_thread.touched);
                thread::park_timeout(PAUSE);
            }
        })?;
        Ok(Self { shared, thread: thread.thread().clone() })
    }

    /// Whether the file has appeared since this was asked last.
    pub(crate) fn take(&self) -> bool {
        self.shared.touched.swap(false, Ordering::SeqCst)
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// When a file that could not be removed was touched.
    heeded: Option<SystemTime>,
}

impl Watched {
    /// One that cannot be removed counts once for each time that it is touched.
    fn look(&mut self, touched: &AtomicBool) {
        let since = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata.modified().unwrap_or(UNIX_EPOCH),
            Err(_) => return,
        };
        if self.heeded == Some(since) {
            return;
        }
        // Before it is removed: whoever sees that it is gone may count on the next step.
        let before = touched.swap(true, Ordering::SeqCst);
        match fs::remove_file(&self.path) {
            Ok(()) => self.heeded = None,
            // Another process was faster: one of the two heeds it.
            Err(error) if error.kind() == NotFound => touched.store(before, Ordering::SeqCst),
            Err(error) => {
                ::log::warn!(
                    "{} cannot be removed ({error}); it is heeded again when it is touched",
                    self.path.display()
                );
                self.heeded = Some(since);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    fn soon(mut happens: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + Duration::from_secs(30);
        while !happens() {
            if Instant::now() > until {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    #[test]
    fn a_file_is_removed_and_counts_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("probe-now");
        fs::write(&path, "").unwrap();
        let watch = FileWatch::start(path.clone()).unwrap();
        for _ in 0..2 {
            assert!(soon(|| !path.exists()));
            assert!(watch.take() && !watch.take());
            thread::sleep(2 * PAUSE);
            assert!(!watch.take());
            fs::write(&path, "").unwrap();
        }
    }

    #[test]
    fn what_cannot_be_removed_counts_once_each_time_it_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a-directory");
        fs::create_dir(&path).unwrap();
        let watch = FileWatch::start(path.clone()).unwrap();
        assert!(soon(|| watch.take()));
        thread::sleep(3 * PAUSE);
        assert!(!watch.take() && path.exists());
        fs::write(path.join("touched"), "").unwrap();
        assert!(soon(|| watch.take()));
    }

    #[test]
    fn nobody_waits_for_a_look_that_hangs() {
        let (release, released) = channel::<()>();
        let (begin, begun) = channel();
        let watch = FileWatch::looking(move |touched| {
            begin.send(()).unwrap();
            let _ = released.recv();
            touched.store(true, Ordering::SeqCst);
        })
        .unwrap();
        begun.recv().unwrap();
        // While it hangs: asking, and ending.
        assert!(!watch.take());
        let shared = Arc::clone(&watch.shared);
        drop(watch);
        assert!(!shared.touched.load(Ordering::SeqCst), "it still hangs");
        release.send(()).unwrap();
        // The thread ends after that look, and lets go of what it shares.
        assert!(soon(|| Arc::strong_count(&shared) == 1));
    }
}
