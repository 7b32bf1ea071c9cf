//! What people read when something fails: a sentence on what happened, then what they can do.

use std::path::Path;

pub type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense; the usage is shown with it.
    Usage(String),
    /// A task could not be done.
    Task(String),
}

impl Failure {
    pub fn task(message: impl Into<String>) -> Self {
        Failure::Task(message.into())
    }

    /// For `map_err` on file operations: the path belongs in every such message.
    pub fn at<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Failure + 'a {
        move |error| Failure::Task(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// The same failure with advice below it.
    pub fn with_advice(self, advice: &str) -> Self {
        match self {
            Failure::Task(message) => Failure::Task(format!("{message}\n\n{}", advice.trim_end())),
            usage => usage,
        }
    }
}
