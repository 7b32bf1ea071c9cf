//! Tells a finished folder from a half-made one, and from one made for other versions.
//!
//! The marker is a file in the folder, written last. It holds what the folder was made from, so that
//! a change of the pinned versions makes it anew.

use std::fs;
use std::path::Path;

use crate::failure::{Failure, Result};

const NAME: &str = ".made-by-xtask";

#[derive(Debug, PartialEq, Eq)]
pub enum State {
    Missing,
    /// No marker: it was interrupted, or others made it.
    Unfinished,
    /// Made from something else.
    Outdated,
    Finished,
}

pub fn state(folder: &Path, made_from: &str) -> State {
    match fs::read_to_string(folder.join(NAME)) {
        Ok(text) if text == made_from => State::Finished,
        Ok(_) => State::Outdated,
        Err(_) if folder.symlink_metadata().is_ok() => State::Unfinished,
        Err(_) => State::Missing,
    }
}

pub fn write(folder: &Path, made_from: &str) -> Result<()> {
    let path = folder.join(NAME);
    fs::write(&path, made_from).map_err(Failure::at("write", &path))
}

/// Removes a file, folder or link, if there is one.
pub fn remove(path: &Path) -> Result<()> {
    let outcome = match path.symlink_metadata() {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    outcome.map_err(Failure::at("remove", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marker_with_the_same_contents_says_finished() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(state(&folder.path().join("none"), "torch 1"), State::Missing);
        assert_eq!(state(folder.path(), "torch 1"), State::Unfinished);
        write(folder.path(), "torch 1").unwrap();
        assert_eq!(state(folder.path(), "torch 1"), State::Finished);
        assert_eq!(state(folder.path(), "torch 2"), State::Outdated);
        assert_eq!(state(folder.path(), "torch"), State::Outdated);
    }

    #[test]
    fn a_link_is_removed_and_its_target_left() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::create_dir(&target).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&target, &link).unwrap();
        remove(&link).unwrap();
        remove(&link).unwrap();
        assert!(target.is_dir() && link.symlink_metadata().is_err());
    }
}
