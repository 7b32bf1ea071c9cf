//! A probe that was cut off on some ranks goes on on others.

use crate::common::{config, generator_lock, on_ranks_with, text};
use crate::faulty::{Faulty, products};
use crate::lines::{count, logged};
use hessian_probe::config::{SlqConfig, SpectrumOf};
use hessian_probe::{HessianProbe, ProbeConfig, Snapshot};
use hessian_probe_fsdp::{Dtype, Trainer};
use log::Level;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

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

/// Cut off after so many Lanczos steps, which it counts; `usize::MAX`: not at all.
fn cut_off_after(probe: &mut HessianProbe, most: usize) -> Arc<AtomicUsize> {
    let (steps, interrupter) = (Arc::new(AtomicUsize::new(0)), probe.interrupter());
    let counted = steps.clone();
    probe.on_progress(move |progress| {
        if !progress.complete && counted.fetch_add(1, Relaxed) + 1 == most {
            interrupter.interrupt();
        }
    });
    steps
}

/// Both operators, after a step of AdamW that one number of ranks took: P is the same, bit for bit. It is cut off in the run
/// on the Hessian, and in that on the other one.
#[test]
fn a_probe_of_the_preconditioned_operator_goes_on_on_another_number_of_ranks() {
    let _lock = generator_lock();
    let directory = tempfile::tempdir().unwrap();
    on_ranks_with(&[2, 3, 1], &[(DIRECTORY, directory.path().as_os_str())], |group| {
        let world_size = group.world_size();
        let checkpoints = PathBuf::from(std::env::var_os(DIRECTORY).unwrap()).join("checkpoints");
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(6).unwrap();
        if world_size == 2 {
            trainer.step().unwrap();
            trainer.save(&checkpoints, &mut []).unwrap();
        } else {
            trainer.resume_latest(&checkpoints, &mut []).unwrap().unwrap();
        }
        // Of 12 steps of either run; saved every 3.
        for (name, first, second) in [("early", 7, 4), ("late", 16, 5)] {
            let operator = |resume: bool, logs: &str| {
                let config = probe(resume, logs).config().clone();
                let slq = SlqConfig { operator: SpectrumOf::Both, ..config.slq };
                HessianProbe::new(ProbeConfig { slq, ..config }).unwrap()
            };
            let mut resumed = operator(true, name);
            let left = match world_size {
                2 => Some(first),
                3 => Some(second),
                _ => None,
            };
            let steps = cut_off_after(&mut resumed, left.unwrap_or(usize::MAX));
            let found = resumed.probe(0, &mut trainer).cloned();
            if left.is_some() {
                assert!(found.unwrap_err().is_interruption());
                continue;
            }
            let found = found.unwrap();
            // Each number of ranks went on from the last multiple of 3; the last step of a run is told as complete.
            let done = (first / 3 * 3 + second) / 3 * 3;
            assert!(steps.load(Relaxed) <= 24 - done, "{name}: {} steps after {done}", steps.load(Relaxed));
            let mut whole = operator(false, "whole");
            let expected = whole.probe(0, &mut trainer).unwrap();
            let of = |snapshot: &Snapshot| {
                [snapshot.probes[0].clone(), snapshot.preconditioned.clone().unwrap().probes[0].clone()]
            };
            for (found, expected) in of(&found).into_iter().zip(of(expected)) {
                let norm = expected.nodes.iter().fold(0.0_f64, |norm, node| norm.max(node.abs()));
                assert_eq!(found.alpha.len(), expected.alpha.len());
                let pairs =
                    found.alpha.iter().chain(&found.beta).zip(expected.alpha.iter().chain(&expected.beta));
                for (a, b) in pairs {
                    assert!((a - b).abs() <= 1e-6 * norm, "{name}: {a} for {b}, ‖T‖ = {norm}");
                }
            }
        }
    });
}

/// Where it cannot be saved it goes on all the same, and says so where the disk is full.
#[cfg(unix)]
#[test]
fn a_probe_that_cannot_be_saved_on_one_rank_goes_on_unsaved_with_a_warning() {
    use crate::common::disk::limit_files;
    let directory = tempfile::tempdir().unwrap();
    on_ranks_with(&[2], &[(DIRECTORY, directory.path().as_os_str())], |group| {
        let rank = group.rank();
        let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
        let mut trainer = Trainer::new(config(true, 0.0, Dtype::F64), group, text()).unwrap();
        trainer.probe_on_validation(6).unwrap();
        let expected = probe(false, "whole").probe(0, &mut trainer).unwrap().probes.clone();
        for victim in 0..2 {
            let logs = format!("full-{victim}");
            let krylov = directory.join(&logs).join("krylov/step-0");
            let mut unsaved = probe(true, &logs);
            // What is on the disk while it goes on.
            let (seen, state) = (Arc::new(AtomicBool::new(false)), krylov.join("state"));
            let told = seen.clone();
            unsaved.on_progress(move |_| {
                told.fetch_or(state.exists(), Relaxed);
            });
            limit_files((rank == victim).then_some(100));
            let (found, lines) = logged(|| unsaved.probe(0, &mut trainer).unwrap().probes.clone());
            limit_files(None);
            assert_eq!(found, expected, "the same T, bit for bit");
            assert!(!seen.load(Relaxed), "nothing says that it was saved");
            let warnings = count(&lines, Level::Warn, "the probe goes on unsaved");
            assert_eq!(warnings, usize::from(rank == victim), "once, where it is: {lines:?}");
            if rank == victim {
                assert_eq!(count(&lines, Level::Warn, krylov.to_str().unwrap()), 1, "{lines:?}");
            }
            trainer.group().barrier().unwrap();
            assert!(!krylov.exists());
        }
        // Or where there is no place for the state alone: rank 0, each time that it is tried.
        let state = directory.join("taken/krylov/step-0/state/taken");
        if rank == 0 {
            std::fs::create_dir_all(&state).unwrap();
        }
        trainer.group().barrier().unwrap();
        let mut unsaved = probe(true, "taken");
        let (found, lines) = logged(|| unsaved.probe(0, &mut trainer).unwrap().probes.clone());
        assert_eq!(found, expected);
        let warnings = count(&lines, Level::Warn, "the probe goes on unsaved");
        assert_eq!(warnings, if rank == 0 { 3 } else { 0 }, "{lines:?}");
        trainer.step().unwrap();
    });
}
