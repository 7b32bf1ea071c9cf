//! Ranks that do not mean the same thing: an error on all of them, and training goes on.

use crate::common::{config, on_ranks, text};
use crate::faulty::state;
use hessian_probe::{Callback, Control, HessianProbe, ProbeConfig};
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_fsdp::{Dtype, Trainer};

fn trainer(group: ProcessGroup) -> Trainer {
    let mut trainer = Trainer::new(config(false, 0.1, Dtype::F32), group, text()).unwrap();
    trainer.probe_on_validation(6).unwrap();
    trainer.step().unwrap();
    trainer
}

fn probe(toml: &str, logs: &str) -> HessianProbe {
    let toml = format!("{toml}\n[log]\njsonl = false\ntensorboard = false\ndir = \"{logs}\"");
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

#[test]
fn different_configurations_are_an_error_on_all_ranks_and_training_goes_on() {
    on_ranks(&[2], |group| {
        let mut trainer = trainer(group);
        let (rank, before) = (trainer.group().rank(), state(&trainer));
        let mut different = probe(&format!("[slq]\nsteps = {}", 3 + rank), "logs");
        // As often as it is called, by whichever method: it does not begin.
        for attempt in 0..3 {
            let error = match attempt {
                0 => different.on_train_begin(&mut trainer).unwrap_err(),
                1 => different.on_step_end(0, &mut trainer).unwrap_err(),
                _ => different.probe(0, &mut trainer).map(drop).unwrap_err(),
            };
            assert!(error.to_string().contains("ranks have different configurations"), "{error}");
            assert!(!error.is_communication(), "{error}");
        }
        // Where the results go is no difference.
        probe("[slq]\nsteps = 3", &format!("logs-{rank}")).on_train_begin(&mut trainer).unwrap();
        assert!(before == state(&trainer));
        trainer.step().unwrap();
    });
}

#[test]
fn probes_at_different_steps_are_an_error_on_all_ranks_and_training_goes_on() {
    on_ranks(&[2], |group| {
        let mut trainer = trainer(group);
        let (rank, before) = (trainer.group().rank() as u64, state(&trainer));
        let mut probe = probe("[schedule]\nevery = 1\n[slq]\nsteps = 3\n[track]\nevery = 1", "logs");
        let probed = probe.probe(rank, &mut trainer).map(drop);
        let tracked = probe.track(rank, &mut trainer).map(drop);
        for error in [probed.unwrap_err(), tracked.unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("ranks probe at different steps") && !error.is_communication(), "{text}");
        }
        // One that is due by the schedule is skipped, as any that fails.
        assert_eq!(probe.on_step_end(rank, &mut trainer).unwrap(), Control::Continue);
        assert!(probe.latest().is_none());
        assert!(before == state(&trainer));
        trainer.step().unwrap();
        // And once they mean the same one, it comes about.
        assert_eq!(probe.probe(7, &mut trainer).unwrap().step, 7);
    });
}
