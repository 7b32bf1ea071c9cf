//! The report file.

use hessian_probe::checkpoint::atomic;
use serde::Serialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where the report will be, as far as that can be known before hours of work.
#[derive(Debug)]
pub struct Report {
    flag: &'static str,
    path: PathBuf,
}

impl Report {
    /// Makes sure that a file can be written there, and makes its directory.
    pub fn at(path: &Path) -> Result<Self, String> {
        Self::at_flag("--out", path)
    }

    /// The same for a file that another flag names.
    pub fn at_flag(flag: &'static str, path: &Path) -> Result<Self, String> {
        let refuse = |reason: &dyn std::fmt::Display| format!("{flag} {}: {reason}", path.display());
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(refuse(&"is a directory; name a file"));
        };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|error| refuse(&error))?;
        }
        let mut trial = name.to_owned();
        trial.push(format!(".{}.trial", std::process::id()));
        let trial = path.with_file_name(trial);
        File::create(&trial).and_then(|_| fs::remove_file(&trial)).map_err(|error| refuse(&error))?;
        Ok(Self { flag, path: path.to_owned() })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the record as JSON, whole or not at all.
    pub fn write(&self, record: &impl Serialize) -> Result<(), String> {
        let mut text = serde_json::to_vec(record).map_err(|error| self.failed(&error))?;
        text.push(b'\n');
        self.write_bytes(&text)
    }

    /// The same for anything else.
    pub fn write_bytes(&self, bytes: &[u8]) -> Result<(), String> {
        atomic::write(&self.path, bytes).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> String {
        format!("{} {}: {error}", self.flag, self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_found_out_first_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        Report::at(&directory.path().join("new/report.json")).unwrap();
        assert_eq!(fs::read_dir(directory.path().join("new")).unwrap().count(), 0);
        assert!(Report::at(directory.path()).unwrap_err().contains("is a directory"));
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(Report::at(&directory.path().join("file/report.json")).is_err());
        assert!(Report::at(Path::new("/proc/report.json")).is_err());
    }
}
