//! Where results go.

mod record;

pub use record::{Record, Session, Skipped};
