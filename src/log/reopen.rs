//! Files that are deleted while a process has them open are made again, with the session they belong to.

use super::append_file::AppendFile;
use super::record::Record;
use std::io;
use std::path::Path;

/// A sink with a file that can be made again.
pub(super) trait Reopen {
    fn file(&self) -> &AppendFile;

    /// Goes on with a new file.
    fn begin_again(&mut self, dir: &Path) -> io::Result<()>;

    /// Appends what a record is in this file, and does nothing else: a session comes to every file that is made again.
    fn append(&mut self, record: &Record) -> io::Result<()>;

    /// The session that this process opened.
    fn session(&mut self) -> &mut Option<Record>;
}

/// Writes a record to the file of a sink, which is made again where it was deleted.
pub(super) fn write<S: Reopen>(sink: &mut S, record: &Record) -> io::Result<()> {
    if sink.file().is_deleted()? {
        let dir = sink.file().path().parent().unwrap_or(Path::new(".")).to_owned();
        std::fs::create_dir_all(&dir)?;
        sink.begin_again(&dir)?;
        let session = sink.session().clone();
        session.iter().try_for_each(|session| sink.append(session))?;
    }
    sink.append(record)?;
    if matches!(record, Record::Session(_)) {
        *sink.session() = Some(record.clone());
    }
    Ok(())
}
