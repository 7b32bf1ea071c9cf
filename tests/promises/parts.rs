//! Where the time of a probe goes is told also of the optimizer's view.

use crate::common::{config, generator_lock, on_ranks, text};
use hessian_probe::{HessianProbe, ProbeConfig};
use hessian_probe_fsdp::{Dtype, Trainer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

const WATCHED: Duration = Duration::from_millis(20);

#[test]
fn the_time_of_a_preconditioned_probe_is_in_the_parts_that_it_belongs_to() {
    let _lock = generator_lock();
    on_ranks(&[1, 2], |group| {
        let mut trainer = Trainer::new(config(false, 0.0, Dtype::F32), group, text()).unwrap();
        trainer.probe_on_validation(4).unwrap();
        trainer.step().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let toml = format!(
            "[slq]\nsteps = 6\nprobes = 3\noperator = \"preconditioned\"\n[resume]\nevery = 1\n[track]\nevery = 5\n\
             [log]\njsonl = false\ntensorboard = false\ndir = {:?}",
            directory.path().to_str().unwrap()
        );
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        // Whoever watches takes time between the steps, as saving does: no work of Lanczos', and no check.
        let watched = Arc::new(AtomicU32::new(0));
        let told = watched.clone();
        probe.on_progress(move |_| {
            told.fetch_add(1, Relaxed);
            sleep(WATCHED);
        });
        let cost = &probe.probe(1, &mut trainer).unwrap().cost;
        let parts = cost.parts;
        assert!(parts.named().iter().all(|(_, seconds)| *seconds >= 0.0), "{parts:?}");
        for (name, seconds) in parts.named() {
            assert!(seconds > 0.0 || name == "blocks", "{name}: {parts:?}");
        }
        assert!((parts.total() / cost.seconds - 1.0).abs() < 1e-9, "{parts:?}, {} s", cost.seconds);
        let watched = watched.load(Relaxed);
        assert!(watched == 18 && parts.other >= (watched * WATCHED).as_secs_f64(), "{parts:?}");
    });
}
