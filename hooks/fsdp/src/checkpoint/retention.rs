//! Which checkpoints stay.

use super::Checkpoint;
use super::atomic::{IoAt, sync_directory};
use super::latest::names;
use super::names::Name;
use crate::error::{Error, Result};
use std::fs;
use std::path::Path;

/// Deletes checkpoints in `directory` that are older than the newest `keep` whole ones. The number of steps
/// says what is older; the checkpoint of step `written` stays in any case.
///
/// Whole is what has an intact manifest and files of the right length; checksums of contents are not
/// computed. So a checkpoint is deleted only when `keep ≥ 1` newer ones are there. One that is being deleted
/// has another name before its first file goes.
///
/// # Errors
/// [`Io`](crate::Error::Io). Checkpoints are then deleted in part, the others are as they were.
pub fn retain(directory: &Path, keep: usize, written: Option<u64>) -> Result<()> {
    let mut whole = 0;
    for name in names(directory, 0)?.into_iter().rev() {
        let Name::Published { step } = name else { continue };
        if whole >= keep.max(1) {
            if Some(step) != written {
                delete(directory, name, step)?;
            }
        } else if Checkpoint::open(&directory.join(name.to_string())).is_ok() {
            whole += 1;
        }
    }
    Ok(())
}

/// Removes what writers left behind that ended while they wrote, replaced or deleted a checkpoint. A checkpoint
/// that one was replacing gets its name back where its successor is not there, or not whole; from then on it is a
/// checkpoint like the others, and [`retain`] deletes it in its turn.
///
/// # Errors
/// [`Io`](crate::Error::Io).
pub(super) fn clean(directory: &Path) -> Result<()> {
    for name in names(directory, 0)? {
        match name {
            Name::Published { .. } => {}
            Name::Staging { .. } | Name::Deleting { .. } => remove(directory, name)?,
            Name::Replaced { step, .. } => settle(directory, name, step)?,
        }
    }
    Ok(())
}

/// Decides between a checkpoint that was being replaced and what is in its place.
fn settle(directory: &Path, replaced: Name, step: u64) -> Result<()> {
    let published = Name::Published { step };
    let path = directory.join(published.to_string());
    let is_there = fs::symlink_metadata(&path).is_ok();
    if is_there && Checkpoint::open(&path).is_ok() {
        return remove(directory, replaced);
    }
    let aside = directory.join(replaced.to_string());
    if is_there {
        match Checkpoint::open(&aside) {
            Ok(_) => delete(directory, published, step)?,
            // Nothing can go on from it. What is in its place, damaged too, retention deletes in its turn.
            Err(Error::Damaged { .. }) => return remove(directory, replaced),
            // Nobody knows: it may be readable again.
            Err(error) => return Err(error),
        }
    }
    log::info!("{} is {} again: its successor never came into place", aside.display(), path.display());
    fs::rename(&aside, &path).io_at(0, "rename", &aside)?;
    sync_directory(directory, 0)
}

fn remove(directory: &Path, name: Name) -> Result<()> {
    let path = directory.join(name.to_string());
    log::info!("removing {}, which an earlier run left behind", path.display());
    fs::remove_dir_all(&path).io_at(0, "remove", &path)
}

fn delete(directory: &Path, name: Name, step: u64) -> Result<()> {
    let path = directory.join(name.to_string());
    let doomed = directory.join(Name::Deleting { step, nonce: 0 }.to_string());
    if fs::symlink_metadata(&doomed).is_ok() {
        fs::remove_dir_all(&doomed).io_at(0, "remove", &doomed)?;
    }
    fs::rename(&path, &doomed).io_at(0, "rename", &path)?;
    // Or a loss of power might leave a checkpoint under its own name with some files gone.
    sync_directory(directory, 0)?;
    fs::remove_dir_all(&doomed).io_at(0, "remove", &doomed)
}
