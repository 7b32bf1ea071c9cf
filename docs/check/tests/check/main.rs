//! What the README and the pages of the docs say, against what is there. Their blocks of Rust are this crate's doc tests.

mod blocks;
mod changelog;
mod commands;
mod examples;
mod links;
mod messages;
mod newcomer;
mod page;
#[path = "../../../../tests/support/python.rs"]
mod python;
mod release;
mod settings;
mod sources;
