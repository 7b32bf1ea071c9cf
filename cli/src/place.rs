//! `RUN@STEP`: which snapshot is meant.

use std::path::PathBuf;

/// A snapshot on the command line: a run, and where it has a suffix `@STEP`, one of its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    pub step: Option<u64>,
}

impl Place {
    /// What is there under its whole name goes before a suffix.
    pub fn parse(text: &str) -> Result<Self, String> {
        let whole = Self { path: text.into(), step: None };
        match text.rsplit_once('@') {
            Some((path, step)) if !whole.path.exists() && !path.is_empty() => match step.parse() {
                Ok(step) => Ok(Self { path: path.into(), step: Some(step) }),
                Err(_) => Err(format!("`{step}` after the `@` is no step")),
            },
            _ => Ok(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_step_may_follow_the_path_unless_there_is_such_a_path() {
        let place = |path: &str, step| Place { path: path.into(), step };
        assert_eq!(Place::parse("runs/a@20").unwrap(), place("runs/a", Some(20)));
        assert_eq!(Place::parse("runs/a").unwrap(), place("runs/a", None));
        assert_eq!(Place::parse("a@b@3").unwrap(), place("a@b", Some(3)));
        assert!(Place::parse("runs/a@last").unwrap_err().contains("`last`"));
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("run@7");
        fs::create_dir(&odd).unwrap();
        assert_eq!(Place::parse(odd.to_str().unwrap()).unwrap(), place(odd.to_str().unwrap(), None));
    }
}
