//! The log directory is deleted by another process while several ranks train.

use crate::common::{config, on_ranks_with, text};
use hessian_probe::log::{Record, read_jsonl};
use hessian_probe::{Callback, Control, HessianProbe, ProbeConfig};
use hessian_probe_c10d::is_launched;
use hessian_probe_fsdp::{Dtype, Trainer};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DIRECTORY: &str = "HESSIAN_PROBE_TEST_DIRECTORY";

fn tell(path: &Path) {
    std::fs::write(path, "").unwrap();
}

fn hear(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The process that deletes: once when it is asked to, then all the time until it is asked to stop.
fn delete(root: &Path) {
    let logs = root.join("logs");
    hear(&root.join("delete"));
    std::fs::remove_dir_all(&logs).unwrap();
    tell(&root.join("deleted"));
    while !root.join("stop").exists() {
        // What is written meanwhile may be in its way; then it tries again.
        let _ = std::fs::remove_dir_all(&logs);
        std::thread::sleep(Duration::from_millis(1));
    }
    tell(&root.join("stopped"));
}

/// The steps of the snapshots, `None` for a session.
fn steps(logs: &Path) -> Vec<Option<u64>> {
    let records = read_jsonl(logs.join("snapshots.jsonl")).unwrap().flatten();
    records
        .filter_map(|record| match record {
            Record::Snapshot(snapshot) => Some(Some(snapshot.step)),
            Record::Session(_) => Some(None),
            _ => None,
        })
        .collect()
}

#[test]
fn a_run_of_two_ranks_goes_on_while_its_log_directory_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    let deleting = (!is_launched()).then(|| std::thread::spawn(move || delete(&root)));
    on_ranks_with(&[2], &[(DIRECTORY, directory.path().as_os_str())], |group| {
        let root = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
        let (rank, logs) = (group.rank(), root.join("logs"));
        let settings = config(false, 0.1, Dtype::F32);
        let mut undisturbed = Trainer::new(settings.clone(), group, text()).unwrap();
        let losses: Vec<_> = (0..10).map(|_| undisturbed.step().unwrap().loss).collect();
        let mut trainer = Trainer::new(settings, undisturbed.into_group(), text()).unwrap();
        trainer.probe_on_validation(6).unwrap();
        let toml = format!(
            "[schedule]\nevery = 1\n[slq]\nsteps = 4\n[resume]\nevery = 1\n[log]\nplots = false\ndir = {:?}",
            logs.to_str().unwrap()
        );
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        for (step, loss) in losses.into_iter().enumerate() {
            assert_eq!(trainer.step().unwrap().loss, loss, "training has noticed nothing");
            assert_eq!(probe.on_step_end(step as u64, &mut trainer).unwrap(), Control::Continue);
            assert_eq!(probe.latest().unwrap().step, step as u64, "neither has the probe");
            if !matches!(step, 1 | 3 | 7 | 9) {
                continue;
            }
            // Waits for the writer.
            probe.on_train_end(&mut trainer).unwrap();
            match step {
                1 if rank == 0 => {
                    assert_eq!(steps(&logs), [None, Some(0), Some(1)]);
                    tell(&root.join("delete"));
                    hear(&root.join("deleted"));
                }
                // From here on it is deleted again and again.
                3 if rank == 0 => {}
                7 if rank == 0 => {
                    tell(&root.join("stop"));
                    hear(&root.join("stopped"));
                }
                9 if rank == 0 => {
                    assert_eq!(steps(&logs)[steps(&logs).len() - 2..], [Some(8), Some(9)]);
                }
                _ => {}
            }
            trainer.group().barrier().unwrap();
        }
    });
    if let Some(deleting) = deleting {
        deleting.join().unwrap();
    }
}
