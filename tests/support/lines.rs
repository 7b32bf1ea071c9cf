//! The lines that this thread logs.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

struct ToThread;

impl Log for ToThread {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push((record.level(), record.args().to_string())));
    }

    fn flush(&self) {}
}

/// What `work` logs on this thread: tests run side by side, each on a thread of its own.
pub fn logged<T>(work: impl FnOnce() -> T) -> (T, Vec<(Level, String)>) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&ToThread).unwrap();
        log::set_max_level(LevelFilter::Debug);
    });
    LINES.take();
    let done = work();
    (done, LINES.take())
}

/// How many of the lines, of this level, have `part` in them.
pub fn count(lines: &[(Level, String)], level: Level, part: &str) -> usize {
    lines.iter().filter(|(at, line)| *at == level && line.contains(part)).count()
}
