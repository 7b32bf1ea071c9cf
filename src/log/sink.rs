//! What a writer thread writes to.

use super::record::Record;
use std::io;
use std::path::Path;

/// A destination of records. It lives on the writer thread; a loop never waits for it.
///
/// An error is reported and the next record is tried all the same, so an implementation leaves itself
/// able to go on. A panic is caught and counts as an error.
pub trait Sink: Send {
    /// The file or directory that error messages name.
    fn path(&self) -> &Path;

    /// Hands one record to the operating system (not merely to a buffer of this process).
    ///
    /// # Errors
    /// When the record, or a part of it, could not be written.
    fn write(&mut self, record: &Record) -> io::Result<()>;

    /// Called once, after the last record: makes it durable.
    ///
    /// # Errors
    /// When that fails.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
