//! What the README and the pages of the docs say, against what is there. Their blocks of Rust are this crate's doc tests.

mod blocks;
mod changelog;
mod commands;
mod examples;
mod links;
mod messages;
mod newcomer;
mod page;
mod release;
mod settings;
