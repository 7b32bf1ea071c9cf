//! What the fuzz targets share.
//!
//! A target is a file in `fuzz_targets/`, named after what it parses. Each goes through the public interface, as a user's
//! program does, and mostly through a file, since that is what we are given: see [`scratch`]. None may panic, take longer
//! or more memory than its bytes justify, or leave a message that does not name the file; and what was accepted must
//! be written and read alike.
//!
//! A checksum would keep a fuzzer from everything behind it. Where a format has one, targets put the right one on what
//! they are given: see [`envelope`] and [`vector_file`].

pub mod envelope;
pub mod gguf;
pub mod host;
pub mod models;
pub mod scratch;
pub mod seeds;
pub mod tfrecord;
pub mod vector_file;
