//! The probe's state in a checkpoint that several ranks write and read: on other numbers of ranks, damaged, on a full disk.

use crate::common::{config, on_ranks_with, text};
use crate::faulty::state;
use hessian_probe::checkpoint::Sidecar;
use hessian_probe::{Callback, Error, HessianProbe, ProbeConfig};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Dtype, Trainer};
use std::path::{Path, PathBuf};

const DIRECTORY: &str = "HESSIAN_PROBE_TEST_DIRECTORY";

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).unwrap().into()
}

fn trainer(group: ProcessGroup) -> Trainer {
    let mut trainer = Trainer::new(config(false, 0.0, Dtype::F64), group, text()).unwrap();
    trainer.probe_on_validation(6).unwrap();
    trainer
}

fn probe() -> HessianProbe {
    let toml = "[schedule]\nat = [0]\n[slq]\nsteps = 6\n[track]\nevery = 1\nproducts = 3\n\
        [log]\njsonl = false\ntensorboard = false";
    HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap()
}

/// A probe that has probed, tracked, and been saved by all ranks.
fn saved(trainer: &mut Trainer, checkpoint: &Path) -> HessianProbe {
    std::fs::create_dir_all(checkpoint).unwrap();
    let mut probe = probe();
    for step in 0..2 {
        probe.on_step_end(step, trainer).unwrap();
    }
    probe.on_save_checkpoint(1, checkpoint, trainer).unwrap();
    probe
}

/// At the same parameters: state, and what tracking finds from the vector that is there in as many parts as ranks wrote.
#[test]
fn a_probe_goes_on_from_its_checkpoint_on_another_number_of_ranks() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[2, 3, 1], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let (rank, world_size, file) = (group.rank(), group.world_size(), directory().join("expected.json"));
        let mut trainer = trainer(group);
        if world_size == 2 {
            let mut probe = saved(&mut trainer, &directory());
            let state = probe.state_dict();
            let tracked = probe.track(2, &mut trainer).unwrap();
            let expected = (state, tracked.lambda_max.value, tracked.overlap.unwrap());
            if rank == 0 {
                std::fs::write(file, serde_json::to_string(&expected).unwrap()).unwrap();
            }
            return;
        }
        let (state, lambda_max, overlap): (serde_json::Value, f64, f64) =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let mut resumed = probe();
        resumed.on_load_checkpoint(&directory(), &mut trainer).unwrap();
        assert_eq!(resumed.state_dict(), state);
        let tracked = resumed.track(2, &mut trainer).unwrap();
        for (found, expected) in [(tracked.lambda_max.value, lambda_max), (tracked.overlap.unwrap(), overlap)]
        {
            let off = (found / expected - 1.0).abs();
            assert!(off < 1e-6, "{found} for {expected} on {world_size} ranks, off by {off:e}");
        }
        // Which it would not be without the vector.
        let fresh = probe().track(2, &mut trainer).unwrap();
        assert!((fresh.lambda_max.value / lambda_max - 1.0).abs() > 1e-3 && fresh.overlap.is_none());
    });
}

/// Cuts a file off while all ranks wait, and has them read it.
fn loaded_with(trainer: &mut Trainer, file: Option<(&Path, &[u8])>, checkpoint: &Path) -> Result<(), Error> {
    if let Some((path, contents)) = file {
        std::fs::write(path, contents).unwrap();
    }
    trainer.group().barrier().unwrap();
    let loaded = probe().on_load_checkpoint(checkpoint, trainer).map(drop);
    trainer.group().barrier().unwrap();
    loaded
}

#[test]
fn a_damaged_state_or_vector_is_an_error_on_all_ranks_and_training_goes_on() {
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[2], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let rank = group.rank();
        let mut trainer = trainer(group);
        // A disk that all see, and one of each rank's own.
        let shared = directory().join("shared");
        saved(&mut trainer, &shared);
        let own = directory().join(format!("own-{rank}"));
        std::fs::create_dir_all(own.join("hessian_probe")).unwrap();
        let files = ["state", "top.rank-0-of-2.safetensors", "top.rank-1-of-2.safetensors"];
        for file in files.map(|file| Path::new("hessian_probe").join(file)) {
            std::fs::copy(shared.join(&file), own.join(&file)).unwrap();
        }
        // Before one of them damages what the other copies.
        trainer.group().barrier().unwrap();
        let before = state(&trainer);
        for file in [files[0], files[2]].map(|file| Path::new("hessian_probe").join(file)) {
            let whole = std::fs::read(own.join(&file)).unwrap();
            for place in (0..20).map(|i| i * whole.len() / 20) {
                let path = shared.join(&file);
                let cut = (rank == 0).then_some((&*path, &whole[..place]));
                let error = loaded_with(&mut trainer, cut, &shared).unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, Error::Checkpoint { rank: at, .. } if at == rank), "{text}");
                assert!(
                    text.contains(path.to_str().unwrap()) && text.contains("delete the directory"),
                    "{text}"
                );

                // The other rank sees nothing wrong, and hears of it.
                let path = own.join(&file);
                let cut = (rank == 1).then_some((&*path, &whole[..place]));
                let error = loaded_with(&mut trainer, cut, &own).unwrap_err();
                let text = error.to_string();
                match rank {
                    0 => assert!(matches!(error, Error::Peer { failed: 1, .. }), "{text}"),
                    _ => assert!(text.contains(path.to_str().unwrap()), "{text}"),
                }
            }
            let mend = (rank == 0).then(|| shared.join(&file));
            loaded_with(&mut trainer, mend.as_deref().map(|path| (path, &*whole)), &shared).unwrap();
            loaded_with(&mut trainer, Some((&own.join(&file), &whole)), &own).unwrap();
        }
        // A state that only one of them finds is that of neither.
        if rank == 1 {
            std::fs::remove_file(Sidecar::path(&own)).unwrap();
        }
        let error = loaded_with(&mut trainer, None, &own).unwrap_err().to_string();
        assert!(error.contains("different ones in") && error.contains(own.to_str().unwrap()), "{error}");
        assert!(before == state(&trainer));
        trainer.step().unwrap();
    });
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_full_for_one_rank_is_an_error_on_all_and_training_goes_on() {
    use crate::common::disk::limit_files;
    let root = tempfile::tempdir().unwrap();
    on_ranks_with(&[2], &[(DIRECTORY, root.path().as_os_str())], |group| {
        let rank = group.rank();
        let mut trainer = trainer(group);
        let mut probe = saved(&mut trainer, &directory());
        let own = directory().join(format!("hessian_probe/top.rank-{rank}-of-2.safetensors"));
        let size = own.metadata().unwrap().len();
        let before = state(&trainer);
        for (number, bytes) in [0, 100, size / 2, size - 1].into_iter().enumerate() {
            for victim in 0..2 {
                let checkpoint = directory().join(format!("full-{victim}-{number}"));
                std::fs::create_dir_all(&checkpoint).unwrap();
                limit_files((rank == victim).then_some(bytes));
                let saved = probe.on_save_checkpoint(1, &checkpoint, &mut trainer);
                limit_files(None);
                let error = saved.unwrap_err();
                let text = error.to_string();
                if rank == victim {
                    assert!(matches!(error, Error::Checkpoint { .. }), "{text}");
                    let file = format!("top.rank-{rank}-of-2.safetensors");
                    assert!(text.contains(checkpoint.to_str().unwrap()) && text.contains(&file), "{text}");
                } else {
                    assert!(matches!(error, Error::Peer { failed, .. } if failed == victim), "{text}");
                }
                // No state says that there is a vector.
                assert!(Sidecar::load(&checkpoint).unwrap().is_none());
            }
        }
        assert!(before == state(&trainer));
        trainer.step().unwrap();
        probe.on_save_checkpoint(2, &directory().join("full-0-0"), &mut trainer).unwrap();
        trainer.group().barrier().unwrap();
        assert_eq!(Sidecar::load(&directory().join("full-0-0")).unwrap().unwrap().top_written_by, 2);
    });
}
