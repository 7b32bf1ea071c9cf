//! The probe's state in a checkpoint, and a probe that goes on from it.
#![no_main]

use hessian_probe::Callback;
use hessian_probe::checkpoint::Sidecar;
use hessian_probe_fuzz::host::{Valley, probe};
use hessian_probe_fuzz::{envelope, scratch};
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::LazyLock;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(scratch::directory);

fuzz_target!(|bytes: &[u8]| {
    let (checkpoint, copy) = (DIRECTORY.join("checkpoint"), DIRECTORY.join("copy"));
    scratch::write(&Sidecar::path(&checkpoint), envelope::wrap("hessian-probe-state", 1, bytes));
    match Sidecar::load(&checkpoint) {
        Ok(state) => {
            let state = state.expect("the file is there");
            state.save(&copy).expect("what was accepted, written");
            assert_eq!(Sidecar::load(&copy).expect("what was written, read"), Some(state));
        }
        Err(error) => scratch::assert_names(&error, &checkpoint),
    }

    let mut host = Valley::default();
    let before = host.bits();
    let mut probe = probe(&DIRECTORY, "[schedule]\nevery = \"100tok\"\n[slq]\nsteps = 2\nprobes = 1");
    if probe.on_load_checkpoint(&checkpoint, &mut host).is_ok() {
        // Whatever it was told, it probes or says why not.
        let _ = probe.on_step_end(7, &mut host);
        let _ = probe.probe(8, &mut host);
        assert_eq!(host.bits(), before);
        probe.on_save_checkpoint(8, &copy, &mut host).expect("its state, written");
        Sidecar::load(&copy).expect("its state, read");
    }
});
