//! A probe that was cut off on some ranks goes on on others.

use crate::common::{config, generator_lock, on_ranks_with, text};
use crate::faulty::{Faulty, products};
use hessian_probe::{HessianProbe, ProbeConfig};
use hessian_probe_fsdp::{Dtype, Trainer};
use std::path::PathBuf;

const DIRECTORY: &str = "HESSIAN_PROBE_TEST_DIRECTORY";

fn probe(resume: bool, logs: &str) -> HessianProbe {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let resume = if resume { "[resume]\nevery = 3\n" } else { "" };
    let toml = format!(
        "[slq]\nsteps = 12\n{resume}[log]\ntensorboard = false\njsonl = false\ndir = {:?}",
        directory.join(logs).to_str().unwrap()
    );
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

/// Each number of ranks continues what the one before it left, four steps at a time, at the same parameters.
#[test]
fn a_probe_that_was_cut_off_goes_on_on_another_number_of_ranks() {
    let _lock = generator_lock();
    let directory = tempfile::tempdir().unwrap();
    on_ranks_with(&[2, 3, 1], &[(DIRECTORY, directory.path().as_os_str())], |group| {
        let world_size = group.world_size();
        let mut trainer = Trainer::new(config(true, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(6).unwrap();
        if world_size > 1 {
            // The last rank gives up; the others hear of it.
            // Six steps are saved by then, two of which took two gradients; three more on three ranks, which need
            // not measure the noise again.
            let measured = *products(&mut trainer, probe(false, "count")).start();
            let cut = if world_size == 2 { measured + 9 } else { 7 };
            let mut host =
                Faulty::new(&mut trainer, |call, _| if call == cut { Err("the end".into()) } else { Ok(()) });
            assert!(probe(true, "logs").probe(0, &mut host).is_err());
            return;
        }
        let mut host = Faulty::new(&mut trainer, |_, _| Ok(()));
        let mut resumed = probe(true, "logs");
        let found = resumed.probe(0, &mut host).unwrap().probes.clone();
        let gradients = host.finish();
        let mut host = Faulty::new(&mut trainer, |_, _| Ok(()));
        let mut whole = probe(false, "whole");
        let expected = whole.probe(0, &mut host).unwrap().probes.clone();
        let undisturbed = host.finish();
        assert!(gradients <= 6, "only what was missing: {gradients} gradients of {undisturbed}");
        let norm = expected[0].nodes.iter().fold(0.0_f64, |norm, node| norm.max(node.abs()));
        for (a, b) in
            found[0].alpha.iter().chain(&found[0].beta).zip(expected[0].alpha.iter().chain(&expected[0].beta))
        {
            assert!((a - b).abs() <= 1e-6 * norm, "{a} for {b}, ‖T‖ = {norm}");
        }
    });
}
