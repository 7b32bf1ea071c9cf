//! Writes the seeds of every target into its corpus. Built with the targets, since another build of libtorch's
//! bindings would take minutes; run by `cargo xtask fuzz`.

use hessian_probe_fuzz::{scratch, seeds};
use std::path::Path;

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, files) in seeds::all() {
        for (name, contents) in files {
            println!("{target}/{name}: {} bytes", contents.len());
            scratch::write(&corpus.join(target).join(name), contents);
        }
    }
    let _ = std::fs::remove_dir_all(scratch::directory());
}
