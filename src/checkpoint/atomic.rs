//! Files that are whole or not there, whenever the process or the machine stops.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `contents` to `path`: to a temporary file beside it that is synced to the disk, then renamed;
/// the directory is synced after that. What was there before stays until the rename.
///
/// # Errors
/// Whatever the file system reports; the temporary file is removed then.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let written = || {
        let mut file = File::create(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    written().inspect_err(|_| {
        // What remains of it would be harmless: nobody reads files of that name.
        let _ = fs::remove_file(&temporary);
    })?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes renames and new entries in a directory survive a power cut.
///
/// # Errors
/// Whatever the file system reports.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_remains() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn where_nothing_can_be_written_what_was_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        assert!(write(&directory.path().join("missing/state"), b"one").is_err());
        // A directory in the place of the file: the rename fails.
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "kept").unwrap();
        assert!(write(&path, b"one").is_err());
        assert_eq!(fs::read_to_string(path.join("inside")).unwrap(), "kept");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
