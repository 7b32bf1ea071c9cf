//! What was saved and cannot be used is not used, and nobody is left to guess: in one process.

#[path = "support/closure_host.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod closure_host;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/models.rs"]
#[expect(dead_code, reason = "only the perceptron is needed")]
mod models;

use closure_host::ClosureHost;
use hessian_probe::{Callback, HessianProbe, ProbeConfig};
use lines::{count, logged};
use log::Level;
use std::path::{Path, PathBuf};
use tch::Kind;

fn host() -> ClosureHost {
    ClosureHost::new(models::mlp(1), Kind::Float)
}

/// The same parameters, other examples.
fn host_with_other_examples() -> ClosureHost {
    let host = ClosureHost::new(models::mlp(2), Kind::Float);
    tch::no_grad(|| {
        for (parameter, same) in host.parameters.iter().zip(&self::host().parameters) {
            parameter.shallow_clone().copy_(same);
        }
    });
    host
}

/// The same again, with loss and gradient times so much.
fn scaled(loss: f64, gradient: f64) -> ClosureHost {
    let mut host = host();
    host.hook = Some(Box::new(move |_, found| {
        found.loss *= loss;
        found.tensors.iter_mut().for_each(|tensor| drop(tensor.g_mul_scalar_(gradient)));
        Ok(())
    }));
    host
}

/// Ends the probe at gradient `at`, as a process that dies there would.
fn ends_at(mut host: ClosureHost, at: u64) -> ClosureHost {
    host.hook = Some(Box::new(move |call, _| if call == at { Err("the end".into()) } else { Ok(()) }));
    host
}

const SLQ: &str = "[slq]\nsteps = 10\nprobes = 3\n";

fn probe(logs: &Path, resume: bool) -> HessianProbe {
    let resume = if resume { "[resume]\nevery = 2\n" } else { "" };
    let toml =
        format!("{SLQ}{resume}[log]\ntensorboard = false\njsonl = false\ndir = {:?}", logs.to_str().unwrap());
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

fn state(logs: &Path) -> PathBuf {
    logs.join("krylov/step-5/state")
}

#[test]
fn a_checkpoint_without_a_state_is_a_fresh_start_that_is_logged() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host();
    let mut probe = probe(directory.path(), false);
    let (loaded, lines) = logged(|| probe.on_load_checkpoint(directory.path(), &mut host));
    loaded.unwrap();
    let told = format!("no probe state in {}; starting afresh", directory.path().display());
    assert_eq!(count(&lines, Level::Info, &told), 1, "{lines:?}");
    // And nothing of the kind where there is one.
    probe.on_save_checkpoint(0, directory.path(), &mut host).unwrap();
    let (loaded, lines) = logged(|| probe.on_load_checkpoint(directory.path(), &mut host));
    loaded.unwrap();
    assert!(lines.iter().all(|(_, line)| !line.contains("afresh")), "{lines:?}");
}

/// Loss and gradient at θ tell: the parameters, and so the fingerprints, are the same.
#[test]
fn a_saved_probe_of_other_data_is_not_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    type Host = fn() -> ClosureHost;
    let others: [(&str, Host); 5] = [
        ("the same", || scaled(1.0, 1.0)),
        ("another loss", || scaled(1.01, 1.0)),
        ("another gradient", || scaled(1.0, 1.01)),
        ("both", || scaled(1.01, 1.01)),
        ("other examples", host_with_other_examples),
    ];
    for (number, (what, other)) in others.into_iter().enumerate() {
        let logs = directory.path().join(number.to_string());
        let mut undisturbed = probe(&directory.path().join("undisturbed"), false);
        let expected = undisturbed.probe(5, &mut other()).unwrap().clone();
        let products = expected.cost.calibration_gradients + 1;
        assert!(probe(&logs, true).probe(5, &mut ends_at(host(), products + 15)).is_err());
        assert!(state(&logs).exists());
        let (mut host, mut resumed) = (other(), probe(&logs, true));
        let (found, lines) = logged(|| resumed.probe(5, &mut host).unwrap().clone());
        let told = count(&lines, Level::Warn, "of other data");
        assert_eq!(
            (told == 1, host.calls < expected.cost.gradients),
            (what != "the same", what == "the same")
        );
        // In everything, what was learned of the gradient's noise included.
        assert_eq!((&found.probes, &found.hvp), (&expected.probes, &expected.hvp), "{what}: the same bits");
        assert_eq!(resumed.state_dict()["calibration"], undisturbed.state_dict()["calibration"], "{what}");
    }
}

/// The process is killed after it has written the vectors of a run, and before the state that refers to them: that on the
/// disk is of the run before.
#[test]
fn a_probe_killed_between_the_vectors_of_a_run_and_its_state_goes_on_from_the_run_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut whole = probe(&directory.path().join("whole"), false);
    let expected = whole.probe(5, &mut host()).unwrap().clone();
    let first = expected.cost.calibration_gradients + 1;
    let of_run = (expected.cost.gradients - first) / 3;
    for run in 1..3 {
        let logs = directory.path().join(run.to_string());
        // Late in the run before, then after the first save of this one.
        let late = first + run * of_run - 1;
        assert!(probe(&logs, true).probe(5, &mut ends_at(host(), late)).is_err());
        let before = std::fs::read(state(&logs)).unwrap();
        // Once more g(θ), and one more where the product that was cut off takes two gradients.
        assert!(probe(&logs, true).probe(5, &mut ends_at(host(), 9)).is_err());
        let vector = logs.join(format!("krylov/step-5/run-{run}-vector-1.rank-0-of-1.safetensors"));
        assert!(vector.exists(), "run {run} has begun to be saved");
        assert_ne!(before, std::fs::read(state(&logs)).unwrap());
        std::fs::write(state(&logs), before).unwrap();

        let (mut host, mut resumed) = (host(), probe(&logs, true));
        let found = resumed.probe(5, &mut host).unwrap();
        assert!(host.calls < expected.cost.gradients - (run - 1) * of_run, "it went on");
        assert_eq!((&found.probes, &found.hvp), (&expected.probes, &expected.hvp), "run {run}: the same T");
    }
}

/// The same where the vectors are those of a probe that began afresh, at the same parameters with other data: whoever
/// comes back to the first ones must not meet a state of his with vectors that are not.
#[test]
fn a_probe_killed_as_it_begins_afresh_leaves_no_state_of_other_vectors() {
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    let mut whole = probe(&directory.path().join("whole"), false);
    let expected = whole.probe(5, &mut host()).unwrap().clone();
    let first = expected.cost.calibration_gradients + 1;
    assert!(probe(&logs, true).probe(5, &mut ends_at(host(), first + 9)).is_err());

    // What is on the disk at each gradient; the process is killed when its first vectors are, and its state is not.
    let mut other = host_with_other_examples();
    let (seen, path) = (std::rc::Rc::new(std::cell::RefCell::new(Vec::new())), state(&logs));
    let states = seen.clone();
    other.hook = Some(Box::new(move |_, _| {
        states.borrow_mut().push(std::fs::read(&path).ok());
        // The first save is at the second step, and the third has begun.
        let saved = states.borrow().iter().flatten().collect::<std::collections::BTreeSet<_>>().len();
        let own = states.borrow().first() != states.borrow().last();
        if own && states.borrow().last().unwrap().is_some() && saved > 0 {
            Err("the end".into())
        } else {
            Ok(())
        }
    }));
    assert!(probe(&logs, true).probe(5, &mut other).is_err());
    let seen = seen.borrow();
    let before = seen.iter().rev().find(|state| *state != seen.last().unwrap()).unwrap();
    match before {
        Some(before) => std::fs::write(state(&logs), before).unwrap(),
        None => std::fs::remove_file(state(&logs)).unwrap(),
    }

    let found = probe(&logs, true).probe(5, &mut host()).unwrap().clone();
    assert_eq!((found.probes, found.hvp), (expected.probes, expected.hvp), "the same T");
}
