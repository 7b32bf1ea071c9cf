//! Log lines that say which rank wrote them.

use log::{LevelFilter, Log, Metadata, Record, SetLoggerError};

/// Whether the launcher puts the rank in front of this process's lines.
pub(crate) const LABELLED: &str = "HESSIAN_PROBE_C10D_LABELLED";

/// Any logger, with `[rank k]` in front of each message where there are several ranks.
///
/// ```
/// use hessian_probe_c10d::RankLogger;
///
/// # struct Own;
/// # impl log::Log for Own {
/// #     fn enabled(&self, _: &log::Metadata) -> bool { true }
/// #     fn log(&self, _: &log::Record) {}
/// #     fn flush(&self) {}
/// # }
/// # let logger = Own;
/// // With env_logger: let logger = env_logger::Builder::from_default_env().build();
/// RankLogger::from_env(logger).install(log::LevelFilter::Info)?;
/// # Ok::<(), log::SetLoggerError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RankLogger<L> {
    inner: L,
    rank: Option<usize>,
}

impl<L: Log> RankLogger<L> {
    /// `inner`, told that this is `rank` of `world_size`. With one rank messages stay as they are.
    pub fn new(inner: L, rank: usize, world_size: usize) -> Self {
        Self { inner, rank: (world_size > 1).then_some(rank) }
    }

    /// The same by `RANK` and `WORLD_SIZE`, before there is a group. Messages also stay as they are where a
    /// [`Launcher`](crate::Launcher) labels the lines of this rank itself.
    pub fn from_env(inner: L) -> Self {
        Self { inner, rank: rank_of(|variable| std::env::var(variable).ok()) }
    }

    /// Makes it the program's logger, for messages up to `level`.
    ///
    /// # Errors
    /// Where the program has one already.
    pub fn install(self, level: LevelFilter) -> Result<(), SetLoggerError>
    where
        L: 'static,
    {
        log::set_boxed_logger(Box::new(self))?;
        log::set_max_level(level);
        Ok(())
    }
}

fn rank_of(variable: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let number = |name| variable(name)?.parse::<usize>().ok();
    let several = number("WORLD_SIZE").is_some_and(|ranks| ranks > 1);
    number("RANK").filter(|_| several && variable(LABELLED).is_none())
}

impl<L: Log> Log for RankLogger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        match self.rank {
            None => self.inner.log(record),
            Some(rank) => {
                let message = record.args();
                self.inner.log(&record.to_builder().args(format_args!("[rank {rank}] {message}")).build());
            }
        }
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Log for &Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= Level::Info
        }

        fn log(&self, record: &Record<'_>) {
            let line =
                format!("{} {} {:?}: {}", record.level(), record.target(), record.line(), record.args());
            self.0.lock().unwrap().push(line);
        }

        fn flush(&self) {}
    }

    fn logged(rank: usize, world_size: usize) -> Vec<String> {
        let kept = Kept::default();
        let logger = RankLogger::new(&kept, rank, world_size);
        assert!(!logger.enabled(&Metadata::builder().level(Level::Debug).build()));
        let record = |text| {
            logger.log(&Record::builder().level(Level::Warn).target("a::b").line(Some(7)).args(text).build());
        };
        record(format_args!("λ is {}", 3));
        kept.0.into_inner().unwrap()
    }

    #[test]
    fn messages_say_the_rank_where_there_are_several() {
        assert_eq!(logged(1, 2), ["WARN a::b Some(7): [rank 1] λ is 3"]);
        assert_eq!(logged(0, 1), ["WARN a::b Some(7): λ is 3"]);
    }

    #[test]
    fn the_rank_is_that_of_the_environment_unless_the_launcher_says_it() {
        let rank = |set: &[(&str, &str)]| {
            rank_of(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(rank(&[]), None);
        assert_eq!(rank(&[("RANK", "0"), ("WORLD_SIZE", "1")]), None);
        assert_eq!(rank(&[("RANK", "0"), ("WORLD_SIZE", "2")]), Some(0));
        assert_eq!(rank(&[("RANK", "1"), ("WORLD_SIZE", "2"), (LABELLED, "1")]), None);
        assert_eq!(rank(&[("RANK", "x"), ("WORLD_SIZE", "2")]), None);
    }
}
