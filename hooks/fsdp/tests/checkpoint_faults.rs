//! Whatever happens while a checkpoint is written, or to one that was: nothing half-written is taken for
//! whole, and the last whole one is found.

mod common;

#[cfg(unix)]
use common::disk::limit_files;
use common::{config, generator_lock, on_ranks_with, parameters, published, text};
use hessian_probe::{Callback, Control, Host};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::checkpoint::latest;
use hessian_probe_fsdp::{Checkpoint, CheckpointConfig, Dtype, Error, OnSaveError, Trainer};
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "CHECKPOINT_TEST_DIRECTORY";

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).expect("set by the parent").into()
}

/// Every file under `directory`.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Writes a file, or fails.
struct Sidecar {
    fails: bool,
}

impl Callback for Sidecar {
    fn on_save_checkpoint(
        &mut self,
        _step: u64,
        directory: &Path,
        host: &mut dyn Host,
    ) -> hessian_probe::Result<Control> {
        if self.fails {
            return Err(hessian_probe::Error::State("no sidecar today".into()));
        }
        let own = directory.join("hessian_probe");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join(format!("state-{}.json", host.group().rank())), "{\"seen\": 3}").unwrap();
        Ok(Control::Continue)
    }
}

#[test]
fn a_file_that_is_cut_off_or_changed_anywhere_is_named_and_the_previous_checkpoint_is_found() {
    let _lock = generator_lock();
    let root = tempfile::tempdir().unwrap();
    let config = config(true, 0.0, Dtype::F32);
    let mut trainer = Trainer::new(config.clone(), ProcessGroup::single(), text()).unwrap();
    for _ in 0..2 {
        trainer.step().unwrap();
        trainer.save(root.path(), &mut [&mut Sidecar { fails: false }]).unwrap();
    }
    let before = parameters(&trainer);
    let newest = root.path().join("step-00000002");
    let damaged = |path: &Path, how: &str| {
        let error = Checkpoint::open(&newest).and_then(|checkpoint| checkpoint.verify()).expect_err(how);
        assert!(error.is_damage(), "{how}: {error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{how}: {error}");
        assert_eq!(latest(root.path()).unwrap().unwrap().step(), 1, "{how}");
    };

    let all = files(&newest);
    assert_eq!(all.len(), 3);
    for path in &all {
        let whole = std::fs::read(path).unwrap();
        let length = whole.len();
        let places = (0..40).map(|i| i * length / 40).chain([1, 7, 8, 9, length - 2, length - 1]);
        for place in places.filter(|&place| place < length) {
            std::fs::write(path, &whole[..place]).unwrap();
            damaged(path, &format!("cut off at {place} of {length}"));
            let mut changed = whole.clone();
            changed[place] ^= 1 << (place % 8);
            std::fs::write(path, &changed).unwrap();
            damaged(path, &format!("bit flipped in byte {place} of {length}"));
            // The trainer checks what it reads, and is not changed by what it refuses.
            if place % 5 == 0 {
                assert!(trainer.resume(&newest, &mut []).unwrap_err().is_damage());
                assert_eq!((trainer.steps_done(), parameters(&trainer) == before), (2, true));
            }
        }
        std::fs::write(path, [&whole[..], b"\0"].concat()).unwrap();
        damaged(path, "longer");
        std::fs::remove_file(path).unwrap();
        damaged(path, "missing");
        // That of another step is of the same length.
        std::fs::copy(root.path().join("step-00000001").join(path.strip_prefix(&newest).unwrap()), path)
            .unwrap();
        if !path.ends_with("manifest.json") && !path.ends_with("state-0.json") {
            damaged(path, "another step's");
        }
        std::fs::write(path, &whole).unwrap();
        assert_eq!(latest(root.path()).unwrap().unwrap().step(), 2, "restored");
    }

    // With nothing whole left, a run does not start from the beginning.
    for step in ["step-00000001", "step-00000002"] {
        std::fs::remove_file(root.path().join(step).join("manifest.json")).unwrap();
    }
    for error in [latest(root.path()).unwrap_err(), trainer.resume_latest(root.path(), &mut []).unwrap_err()]
    {
        assert!(error.to_string().contains("step-00000002/manifest.json: is missing"), "{error}");
    }
}

#[test]
fn damage_that_one_rank_sees_makes_all_ranks_fall_back() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[2, 3], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let (rank, world_size) = (group.rank(), group.world_size());
        let directory = directory().join(world_size.to_string());
        let mut trainer = Trainer::new(config(false, 0.1, Dtype::F32), group, text()).unwrap();
        let mut states = Vec::new();
        for _ in 0..2 {
            trainer.step().unwrap();
            trainer.save(&directory, &mut [&mut Sidecar { fails: false }]).unwrap();
            states.push(parameters(&trainer));
        }
        let newest = directory.join("step-00000002");
        for path in files(&newest) {
            let whole = std::fs::read(&path).unwrap();
            trainer.group().barrier().unwrap();
            if rank == 0 {
                let mut changed = whole.clone();
                let last = changed.len() - 10;
                changed[last] ^= 4;
                std::fs::write(&path, changed).unwrap();
            }
            trainer.group().barrier().unwrap();
            assert!(trainer.resume(&newest, &mut []).unwrap_err().is_damage());
            assert!(parameters(&trainer) == states[1], "nothing was read");
            let found = trainer.resume_latest(&directory, &mut []).unwrap().unwrap();
            assert_eq!(found, directory.join("step-00000001"));
            assert!(parameters(&trainer) == states[0]);
            trainer.group().barrier().unwrap();
            if rank == 0 {
                std::fs::write(&path, whole).unwrap();
            }
            trainer.group().barrier().unwrap();
            trainer.resume(&newest, &mut []).unwrap();
        }
    });
}

#[test]
fn a_callback_that_fails_on_one_rank_is_an_error_on_all_and_nothing_is_published() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[2], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let rank = group.rank();
        let mut trainer = Trainer::new(config(true, 0.0, Dtype::F32), group, text()).unwrap();
        for failing in [0, 1] {
            let mut sidecar = Sidecar { fails: rank == failing };
            let error = trainer.save(&directory(), &mut [&mut sidecar]).unwrap_err();
            if rank == failing {
                assert!(matches!(error, Error::Callback { during: "on_save_checkpoint", .. }), "{error}");
            } else {
                assert!(matches!(error, Error::Peer { failed, .. } if failed == failing), "{error}");
            }
            trainer.group().barrier().unwrap();
            assert!(published(&directory()).is_empty());
        }
        trainer.save(&directory(), &mut [&mut Sidecar { fails: false }]).unwrap();
    });
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_on_all_ranks_and_training_goes_on() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[1, 2], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let (rank, world_size) = (group.rank(), group.world_size());
        let directory = directory().join(world_size.to_string());
        let settings = config(true, 0.1, Dtype::F32);
        let mut undisturbed = Trainer::new(settings.clone(), group, text()).unwrap();
        let losses: Vec<_> = (0..20).map(|_| undisturbed.step().unwrap().loss).collect();

        let mut trainer = Trainer::new(settings, undisturbed.into_group(), text()).unwrap();
        let mut found = vec![trainer.step().unwrap().loss];
        let first = trainer.save(&directory, &mut []).unwrap();
        for victim in 0..world_size {
            // After the manifest, in the order of ranks.
            let size = files(&first)[1 + victim].metadata().unwrap().len();
            for bytes in [0, 100, size / 2, size - 1] {
                found.push(trainer.step().unwrap().loss);
                if rank == victim {
                    limit_files(Some(bytes));
                }
                let result = trainer.save(&directory, &mut []);
                limit_files(None);
                let error = result.unwrap_err();
                if rank == victim {
                    assert!(matches!(&error, Error::Io { rank, .. } if *rank == victim), "{error}");
                    assert!(error.to_string().contains("Make room"), "{error}");
                } else {
                    assert!(matches!(&error, Error::Peer { failed, .. } if *failed == victim), "{error}");
                }
                trainer.group().barrier().unwrap();
                assert_eq!(published(&directory), ["step-00000001"]);
            }
        }
        found.extend((found.len()..20).map(|_| trainer.step().unwrap().loss));
        assert_eq!(found, losses, "training has noticed nothing");
        trainer.save(&directory, &mut []).unwrap();
        trainer.group().barrier().unwrap();
        assert_eq!(published(&directory), ["step-00000001", "step-00000020"]);
    });
}

#[test]
fn a_run_ends_or_goes_on_when_a_checkpoint_cannot_be_written_as_configured() {
    let _lock = generator_lock();
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    for on_error in [OnSaveError::Stop, OnSaveError::Continue] {
        let mut config = config(true, 0.0, Dtype::F32);
        let dir = file.join("below");
        config.checkpoint =
            Some(CheckpointConfig { every: Some(2), on_error, ..CheckpointConfig::new(&dir) });
        let mut trainer = Trainer::new(config, ProcessGroup::single(), text()).unwrap();
        let result = trainer.run(3, &mut [], |_| {});
        match on_error {
            OnSaveError::Stop => {
                assert!(matches!(result, Err(Error::Io { .. })) && trainer.steps_done() == 2)
            }
            OnSaveError::Continue => {
                let report = result.unwrap();
                assert_eq!((report.steps, report.checkpoints, report.failed_checkpoints), (3, 0, 2));
            }
        }
    }
}
