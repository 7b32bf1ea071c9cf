//! The vector that tracking starts from: a safetensors file of slices by global index.
#![no_main]

use hessian_probe::Callback;
use hessian_probe_fuzz::host::{Valley, probe};
use hessian_probe_fuzz::{scratch, seeds, vector_file};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static CHECKPOINT: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = scratch::directory().join("checkpoint");
    seeds::save_top(&directory);
    directory
});

fuzz_target!(|bytes: &[u8]| {
    let mut file = bytes.to_vec();
    vector_file::mend(&mut file);
    scratch::write(&CHECKPOINT.join(seeds::TOP), file);
    let mut host = Valley::default();
    let before = host.bits();
    let mut probe = probe(&CHECKPOINT, seeds::PROBE);
    match probe.on_load_checkpoint(&CHECKPOINT, &mut host) {
        // A start that is no number is found out by the products.
        Ok(_) => drop(probe.track(2, &mut host).map(|found| found.step)),
        Err(error) => scratch::assert_names(&error, &CHECKPOINT),
    }
    assert_eq!(host.bits(), before);
});
