//! A probe that is under way, and the process that goes on with it.
#![no_main]

use hessian_probe_fuzz::host::{Valley, probe};
use hessian_probe_fuzz::{envelope, scratch, seeds};
use libfuzzer_sys::fuzz_target;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| scratch::directory().join("probe"));

/// The vectors of the one that is under way.
static VECTORS: LazyLock<Vec<(OsString, Vec<u8>)>> = LazyLock::new(|| {
    seeds::interrupt(&DIRECTORY, seeds::ENDS_AT);
    let entries = fs::read_dir(DIRECTORY.join(seeds::KRYLOV)).expect("a probe under way");
    let entries = entries.map(|entry| entry.expect("a name"));
    let entries = entries.filter(|entry| entry.file_name() != "state");
    entries.map(|entry| (entry.file_name(), fs::read(entry.path()).expect("a vector"))).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let vectors = &*VECTORS;
    let saved = DIRECTORY.join(seeds::KRYLOV);
    scratch::clear(&saved);
    for (name, contents) in vectors {
        scratch::write(&saved.join(name), contents);
    }
    scratch::write(&saved.join("state"), envelope::wrap("hessian-probe-krylov", 3, bytes));
    let mut host = Valley::default();
    let before = host.bits();
    // The process that goes on need not save: that takes most of the time.
    let toml = seeds::PROBE.replace("[resume]\nevery = 1", "[resume]\nevery = 64");
    // It is resumed, or starts afresh; either way there is a snapshot, or the reason why not.
    let _ = probe(&DIRECTORY, &toml).probe(0, &mut host).map(|snapshot| snapshot.step);
    assert_eq!(host.bits(), before);
});
