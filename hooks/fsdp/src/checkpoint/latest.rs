//! Checkpoints in a directory, and the newest that is whole.

use super::Checkpoint;
use super::atomic::IoAt;
use super::names::Name;
use crate::error::Result;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// What is in `directory`, sorted by name; what is not ours is left out.
pub(super) fn names(directory: &Path, rank: usize) -> Result<Vec<Name>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.io_at(rank, "list", directory)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.io_at(rank, "list", directory)?;
        names.extend(entry.file_name().to_str().and_then(Name::parse));
    }
    names.sort_unstable();
    Ok(names)
}

/// The names of what may be checkpoints, newest step first. Of one step, the published one comes first, and
/// then one that was being replaced when its writer ended.
pub(super) fn candidates(directory: &Path, rank: usize) -> Result<Vec<Name>> {
    let step = |name: &Name| match *name {
        Name::Published { step } | Name::Replaced { step, .. } => Some(step),
        _ => None,
    };
    let mut names = names(directory, rank)?;
    names.retain(|name| step(name).is_some());
    // Stable: names of one step stay as they were sorted.
    names.sort_by_key(|name| std::cmp::Reverse(step(name)));
    Ok(names)
}

/// The newest checkpoint in `directory` that is whole, every byte of it checked; `None` where there is none
/// or the directory does not exist. One that is damaged is logged and passed over.
///
/// Newest is that with the most steps. This reads the checkpoint as a whole;
/// [`Trainer::resume_latest`](crate::Trainer::resume_latest) shares the work among ranks.
///
/// # Errors
/// Where there are checkpoints but none that is whole, what is wrong with the newest: a run must not
/// start from the beginning by accident. [`Io`](crate::Error::Io), where the directory cannot be read.
pub fn latest(directory: &Path) -> Result<Option<Checkpoint>> {
    let mut newest = None;
    for name in candidates(directory, 0)? {
        let checkpoint = Checkpoint::open(&directory.join(name.to_string()));
        match checkpoint.and_then(|checkpoint| checkpoint.verify().map(|()| checkpoint)) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(error) if error.is_damage() => {
                log::warn!("{error}");
                newest.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    newest.map_or(Ok(None), Err)
}
