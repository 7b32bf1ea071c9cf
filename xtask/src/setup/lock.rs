//! One set-up at a time, also between processes. The system drops the lock when its holder ends,
//! however it ends.

use std::fs::{File, TryLockError};

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

/// Locked as long as the value lives.
pub fn acquire(workspace: &Workspace) -> Result<File> {
    let path = workspace.root().join(".setup.lock");
    let file = File::create(&path).map_err(Failure::at("create", &path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => eprintln!("waiting for the set-up in another process ..."),
        Err(TryLockError::Error(error)) => return Err(Failure::at("lock", &path)(error)),
    }
    file.lock().map_err(Failure::at("lock", &path))?;
    Ok(file)
}
