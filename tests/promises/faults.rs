//! Ranks that die, stall or are told to end in the middle of a probe.

use crate::common::{config, generator_lock, text};
use crate::faulty::{Faulty, products, state};
use hessian_probe::checkpoint::Sidecar;
use hessian_probe::{Callback, Control, Error, HessianProbe, Interrupter, ProbeConfig};
use hessian_probe_c10d::{Launcher, Outcome, Output, ProcessGroup, is_launched};
use hessian_probe_fsdp::{Dtype, Trainer};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a collective waits for another rank.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Starts a test of this binary on three ranks.
fn launch(name: &str) -> Outcome {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    Launcher::new(3).command(command).env("OMP_NUM_THREADS", "1").output(Output::Captured).run().unwrap()
}

fn show(outcome: &Outcome) -> String {
    (0..3).map(|rank| format!("--- rank {rank}\n{}\n", outcome.output(rank))).collect()
}

fn trainer() -> Trainer {
    tch::set_num_threads(1);
    let mut group = ProcessGroup::from_env(Duration::from_secs(30)).unwrap();
    group.set_timeout(PATIENCE).unwrap();
    let mut trainer = Trainer::new(config(false, 0.1, Dtype::F32), group, text()).unwrap();
    trainer.probe_on_validation(6).unwrap();
    trainer.step().unwrap();
    trainer
}

fn probe() -> HessianProbe {
    let toml = "[schedule]\nevery = 1\n[slq]\nsteps = 5\n[log]\njsonl = false\ntensorboard = false";
    HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap()
}

/// A survivor: its probe ends soon with an error that names rank and cause, its parameters are what they
/// were. Such an error is returned even where failed probes are skipped: the group is lost.
fn survive(trainer: &mut Trainer, within: Duration, cause: &str) {
    let before = state(trainer);
    let rank = trainer.group().rank();
    let started = Instant::now();
    let error: Error = probe().on_step_end(0, &mut Faulty::new(trainer, |_, _| Ok(()))).unwrap_err();
    assert!(started.elapsed() < within, "{:?}", started.elapsed());
    let text = error.to_string();
    assert!(error.is_communication(), "{text}");
    assert!(text.contains(&format!("rank {rank}:")) && text.contains(cause), "{text}");
    assert!(before == state(trainer), "parameters and random state are restored");
    assert!(trainer.step().is_err(), "training cannot go on without the rank, and says so");
}

#[test]
fn a_rank_killed_in_a_probe_is_named_by_the_survivors_who_restore_their_parameters() {
    let _lock = generator_lock();
    if is_launched() {
        let mut trainer = trainer();
        let at = products(&mut trainer, probe()).start() + 1;
        if trainer.group().rank() == 1 {
            let mut host = Faulty::new(&mut trainer, |call, _| {
                if call == at {
                    // SAFETY: ends this process, in the middle of a product.
                    unsafe { libc::raise(libc::SIGKILL) };
                }
                Ok(())
            });
            let _ = probe().on_step_end(0, &mut host);
            unreachable!("killed");
        }
        return survive(&mut trainer, Duration::from_secs(10), "rank 1");
    }
    let outcome =
        launch("faults::a_rank_killed_in_a_probe_is_named_by_the_survivors_who_restore_their_parameters");
    let statuses = outcome.statuses();
    assert_eq!(statuses[1].signal(), Some(libc::SIGKILL), "{}", show(&outcome));
    assert!(statuses[0].success() && statuses[2].success(), "{}", show(&outcome));
}

/// The survivors wait in the first all_gather of a training step for a rank that dies instead of joining.
#[test]
fn a_rank_killed_in_a_gather_of_training_is_named_by_the_survivors() {
    let _lock = generator_lock();
    if is_launched() {
        let mut trainer = trainer();
        if trainer.group().rank() == 1 {
            std::thread::sleep(PATIENCE / 5);
            // SAFETY: ends this process, while the others are in the gather.
            unsafe { libc::raise(libc::SIGKILL) };
        }
        let parameters = state(&trainer).0;
        let (rank, started) = (trainer.group().rank(), Instant::now());
        let text = trainer.step().unwrap_err().to_string();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert!(text.contains(&format!("rank {rank}:")) && text.contains("rank 1"), "{text}");
        assert!(parameters == state(&trainer).0, "a step that failed changes nothing");
        return;
    }
    let outcome = launch("faults::a_rank_killed_in_a_gather_of_training_is_named_by_the_survivors");
    let statuses = outcome.statuses();
    assert_eq!(statuses[1].signal(), Some(libc::SIGKILL), "{}", show(&outcome));
    assert!(statuses[0].success() && statuses[2].success(), "{}", show(&outcome));
}

#[test]
fn a_rank_that_stalls_in_a_probe_is_an_error_at_the_timeout() {
    let _lock = generator_lock();
    if is_launched() {
        let mut trainer = trainer();
        let at = products(&mut trainer, probe()).start() + 2;
        if trainer.group().rank() == 2 {
            let before = state(&trainer);
            let mut host = Faulty::new(&mut trainer, |call, _| {
                if call == at {
                    std::thread::sleep(4 * PATIENCE);
                }
                Ok(())
            });
            let error = probe().on_step_end(0, &mut host).unwrap_err();
            host.finish();
            assert!(error.is_communication(), "{error}");
            assert!(before == state(&trainer), "the sleeper restores its parameters, too");
            return;
        }
        return survive(&mut trainer, 4 * PATIENCE, "not heard of: rank 2");
    }
    let outcome = launch("faults::a_rank_that_stalls_in_a_probe_is_an_error_at_the_timeout");
    assert!(outcome.success(), "{}", show(&outcome));
}

static INTERRUPTER: OnceLock<Interrupter> = OnceLock::new();

extern "C" fn on_sigterm(_: libc::c_int) {
    if let Some(interrupter) = INTERRUPTER.get() {
        interrupter.interrupt();
    }
}

#[test]
fn sigterm_to_one_rank_ends_the_probe_on_all_and_lets_the_loop_save() {
    let _lock = generator_lock();
    if is_launched() {
        let mut trainer = trainer();
        let rank = trainer.group().rank();
        let at = products(&mut trainer, probe()).start() + 3;
        let mut probe = probe();
        INTERRUPTER.set(probe.interrupter()).unwrap();
        // SAFETY: the handler reads a static that is set, and stores an atomic flag.
        unsafe { libc::signal(libc::SIGTERM, on_sigterm as *const () as libc::sighandler_t) };
        let before = state(&trainer);
        let mut host = Faulty::new(&mut trainer, |call, _| {
            if call == at && rank == 1 {
                // SAFETY: a signal for which there is a handler.
                unsafe { libc::raise(libc::SIGTERM) };
            }
            Ok(())
        });
        assert_eq!(probe.on_step_end(0, &mut host).unwrap(), Control::RequestStop, "on every rank");
        // Its own product takes two gradients at most, the next one another two.
        assert!((at..=at + 3).contains(&host.finish()), "at the next product");
        assert!(before == state(&trainer));
        let directory = std::env::temp_dir().join(format!("hessian-probe-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        probe.on_save_checkpoint(0, &directory, &mut trainer).unwrap();
        assert_eq!(Sidecar::load(&directory).unwrap().is_some(), rank == 0);
        std::fs::remove_dir_all(&directory).unwrap();
        trainer.step().unwrap();
        return;
    }
    let outcome = launch("faults::sigterm_to_one_rank_ends_the_probe_on_all_and_lets_the_loop_save");
    assert!(outcome.success(), "{}", show(&outcome));
}
