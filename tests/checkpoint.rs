//! The probe's state beside a checkpoint, its budget, and ending it from outside; in one process.

#[path = "support/closure_host.rs"]
mod closure_host;
#[path = "support/models.rs"]
#[expect(dead_code, reason = "only the perceptron is needed")]
mod models;

use closure_host::ClosureHost;
use hessian_probe::checkpoint::Sidecar;
use hessian_probe::log::{Record, read_jsonl};
use hessian_probe::{Callback, Control, Error, HessianProbe, OptimizerKind, ProbeConfig};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::Path;
use tch::{Kind, Tensor};

fn host() -> ClosureHost {
    ClosureHost::new(models::mlp(1), Kind::Float)
}

fn probe(logs: &Path, toml: &str) -> HessianProbe {
    let toml = format!("{toml}\n[log]\ndir = {:?}", logs.to_str().unwrap());
    HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap()
}

fn skipped(logs: &Path) -> Vec<(u64, String)> {
    read_jsonl(logs.join("snapshots.jsonl"))
        .unwrap()
        .filter_map(|record| match record.unwrap() {
            Record::Skipped(skipped) => Some((skipped.step, skipped.reason)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_probe_goes_on_from_its_checkpoint_as_if_nothing_had_happened() {
    let directory = tempfile::tempdir().unwrap();
    let (logs, checkpoint) = (directory.path().join("logs"), directory.path().join("step-7"));
    std::fs::create_dir(&checkpoint).unwrap();
    let toml = "[schedule]\nevery = 3\n[slq]\nsteps = 6\n[hvp]\nrecalibrate_every = 4";
    let mut host = host();
    let mut undisturbed = probe(&logs, toml);
    for step in 0..8 {
        undisturbed.on_step_end(step, &mut host).unwrap();
    }
    assert_eq!(undisturbed.on_save_checkpoint(7, &checkpoint, &mut host).unwrap(), Control::Continue);
    let mut resumed = probe(&logs, toml);
    resumed.on_load_checkpoint(&checkpoint, &mut host).unwrap();
    assert_eq!(resumed.latest(), undisturbed.latest());
    resumed.on_train_begin(&mut host).unwrap();
    for step in 8..20 {
        undisturbed.on_step_end(step, &mut host).unwrap();
        resumed.on_step_end(step, &mut host).unwrap();
        let [a, b] = [undisturbed.latest().unwrap(), resumed.latest().unwrap()];
        assert_eq!(
            (a.step, &a.probes, &a.hvp),
            (b.step, &b.probes, &b.hvp),
            "the same bits, the same calibration"
        );
    }
    assert_eq!(resumed.state_dict()["probes_taken"], 7);
    assert_eq!(undisturbed.state_dict()["last_probed"], resumed.state_dict()["last_probed"]);
}

/// Not even in what was learned of the gradient: the next probe finds the bits that it would have found anyway.
#[test]
fn a_probe_that_failed_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let slq = "[slq]\nsteps = 6\nprobes = 2";
    let [mut calm, mut troubled] = ["calm", "troubled"].map(|name| probe(&directory.path().join(name), slq));
    let mut host = host();
    for probe in [&mut calm, &mut troubled] {
        probe.probe(0, &mut host).unwrap();
    }
    for at in [1, 3, 7, 9] {
        assert!(troubled.probe(1, &mut ends_at(at)).is_err(), "gradient {at}");
    }
    let [a, b] = [&mut calm, &mut troubled].map(|probe| probe.probe(2, &mut host).unwrap().clone());
    assert_eq!((a.probes, a.hvp), (b.probes, b.hvp));
}

/// The vector that tracking starts from travels with the checkpoint.
#[test]
fn tracking_goes_on_from_its_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let (logs, checkpoint) = (directory.path().join("logs"), directory.path().join("step-5"));
    std::fs::create_dir(&checkpoint).unwrap();
    let toml = "[schedule]\nat = [0]\n[slq]\nsteps = 6\n[track]\nevery = 2\nproducts = 2";
    let mut host = host();
    let mut undisturbed = probe(&logs, toml);
    for step in 0..6 {
        undisturbed.on_step_end(step, &mut host).unwrap();
    }
    undisturbed.on_save_checkpoint(5, &checkpoint, &mut host).unwrap();
    let mut resumed = probe(&directory.path().join("more"), toml);
    resumed.on_load_checkpoint(&checkpoint, &mut host).unwrap();
    let mut fresh = probe(&directory.path().join("fresh"), toml);
    let [a, b, c] =
        [&mut undisturbed, &mut resumed, &mut fresh].map(|probe| probe.track(6, &mut host).unwrap());
    assert_eq!((a.lambda_max, a.overlap), (b.lambda_max, b.overlap), "the same bits");
    assert_ne!(a.lambda_max, c.lambda_max);
    // A part that is cut off is an error that names it and says what to do; so is one that is missing.
    let part = checkpoint.join("hessian_probe/top.rank-0-of-1.safetensors");
    let whole = std::fs::read(&part).unwrap();
    for length in (0..whole.len()).step_by(97) {
        std::fs::write(&part, &whole[..length]).unwrap();
        let error = probe(&logs, toml).on_load_checkpoint(&checkpoint, &mut host).unwrap_err().to_string();
        assert!(error.contains("top.rank-0-of-1") && error.contains("delete the directory"), "{error}");
    }
    // A slice whose end is beyond every index belongs to nobody.
    let data = [0; 8];
    let view = TensorView::new(Dtype::F32, vec![2], &data).unwrap();
    let checksum = HashMap::from([("crc32c".to_owned(), format!("{:08x}", crc32c::crc32c(&data)))]);
    let beyond = safetensors::serialize([(u64::MAX.to_string(), view)], Some(checksum)).unwrap();
    std::fs::write(&part, beyond).unwrap();
    let error = probe(&logs, toml).on_load_checkpoint(&checkpoint, &mut host).unwrap_err().to_string();
    assert!(error.contains("0 of this rank's"), "{error}");
    std::fs::remove_file(&part).unwrap();
    let error = probe(&logs, toml).on_load_checkpoint(&checkpoint, &mut host).unwrap_err().to_string();
    assert!(error.contains("top.rank-0-of-1"), "{error}");
    // A probe that tracks nothing does not ask for it.
    probe(&logs, "[slq]\nsteps = 6").on_load_checkpoint(&checkpoint, &mut host).unwrap();
}

#[test]
fn a_missing_state_is_a_fresh_start_and_a_broken_one_an_error_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let (logs, checkpoint) = (directory.path().join("logs"), directory.path());
    let mut host = host();
    let mut first = probe(&logs, "[slq]\nsteps = 3");
    first.on_load_checkpoint(checkpoint, &mut host).unwrap();
    first.probe(0, &mut host).unwrap();
    first.on_save_checkpoint(0, checkpoint, &mut host).unwrap();
    let path = Sidecar::path(checkpoint);
    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let mut probe = probe(&logs, "");
        let error = probe.on_load_checkpoint(checkpoint, &mut host).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("hessian_probe/state") && text.contains("delete the directory"), "{text}");
    }
    std::fs::write(&path, whole).unwrap();
    // Another configuration is no reason to refuse what was learned.
    let mut other = probe(&logs, "[slq]\nsteps = 4");
    other.on_load_checkpoint(checkpoint, &mut host).unwrap();
    assert_eq!(other.probe(1, &mut host).unwrap().cost.calibration_gradients, 0);
}

#[test]
fn a_state_that_cannot_be_written_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let mut host = host();
    let mut probe = probe(directory.path(), "");
    let error = probe.on_save_checkpoint(3, &file, &mut host).unwrap_err();
    assert!(
        matches!(error, Error::Checkpoint { .. }) && error.to_string().contains("file/hessian_probe"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_can_be_a_point_at_which_to_probe() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host();
    let mut probe = probe(directory.path(), "[schedule]\nevery = 4\nat_checkpoints = true\n[slq]\nsteps = 3");
    let mut probed = Vec::new();
    for step in 0..7 {
        probe.on_step_end(step, &mut host).unwrap();
        if step % 2 == 0 {
            probe.on_save_checkpoint(step, directory.path(), &mut host).unwrap();
        }
        probed.push(probe.latest().map(|snapshot| snapshot.step).unwrap());
    }
    // Steps 0 and 4 were due anyway, and are probed once.
    assert_eq!(probed, [0, 0, 2, 2, 4, 4, 6]);
    assert_eq!(probe.state_dict()["probes_taken"], 4);
    assert_eq!(Sidecar::load(directory.path()).unwrap().unwrap().latest.unwrap().step, 6);
}

#[test]
fn a_probe_over_its_budget_is_skipped_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host();
    // θ (149 f32), g, w and 3 vectors of the basis.
    let takes = 149 * 4 * 6;
    let toml = |limit: u64| {
        format!(
            "on_error = \"stop\"\n[schedule]\nevery = 1\n[slq]\nsteps = 3\n[budget]\nmax_memory = {limit}"
        )
    };
    let mut tight = probe(&directory.path().join("tight"), &toml(takes - 1));
    assert_eq!(tight.on_step_end(0, &mut host).unwrap(), Control::Continue);
    assert!(tight.latest().is_none() && host.calls == 0, "nothing was computed");
    drop(tight);
    let reasons = skipped(&directory.path().join("tight"));
    assert!(reasons.len() == 1 && reasons[0].1.contains("budget.max_memory"), "{reasons:?}");
    let mut enough = probe(&directory.path().join("enough"), &toml(takes));
    enough.on_step_end(0, &mut host).unwrap();
    let cost = &enough.latest().unwrap().cost;
    assert_eq!(cost.vector_bytes + cost.basis_bytes, takes, "and the estimate is what it takes");

    // The next probe comes at once: no training in between, an overhead beyond any limit.
    let toml = "[schedule]\nevery = 1\n[slq]\nsteps = 3\n[budget]\nmax_overhead = 0.5";
    let logs = directory.path().join("overhead");
    let mut hasty = probe(&logs, toml);
    for step in 0..3 {
        hasty.on_step_end(step, &mut host).unwrap();
    }
    let seconds = hasty.latest().unwrap().cost.seconds;
    std::thread::sleep(std::time::Duration::from_secs_f64(4.0 * seconds));
    hasty.on_step_end(3, &mut host).unwrap();
    assert_eq!(hasty.latest().unwrap().step, 3);
    drop(hasty);
    let reasons = skipped(&logs);
    assert_eq!(reasons.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2]);
    assert!(reasons[0].1.contains("budget.max_overhead = 50.0 %"), "{reasons:?}");
}

#[test]
fn an_interrupted_probe_restores_parameters_and_asks_the_loop_to_stop() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = host();
    let before = host.flat();
    let mut probe = probe(directory.path(), "on_error = \"stop\"\n[schedule]\nevery = 1\n[slq]\nsteps = 20");
    let interrupter = probe.interrupter();
    host.hook = Some(Box::new(move |call, _| {
        if call == 15 {
            // From another thread, as a signal would come.
            let interrupter = interrupter.clone();
            std::thread::spawn(move || interrupter.interrupt()).join().unwrap();
        }
        Ok(())
    }));
    assert_eq!(probe.on_step_end(0, &mut host).unwrap(), Control::RequestStop);
    assert!(host.calls < 20, "it stopped at the next product, after {} gradients", host.calls);
    assert_eq!(host.flat(), before);
    assert!(probe.latest().is_none());
    // The loop saves: the state is written even so.
    probe.on_save_checkpoint(0, directory.path(), &mut host).unwrap();
    assert!(Sidecar::load(directory.path()).unwrap().is_some());
    drop(probe);
    assert!(skipped(directory.path())[0].1.contains("interrupted"));
}

/// Ends the probe at gradient `at`, as a process that dies there would.
fn ends_at(at: u64) -> ClosureHost {
    let mut host = host();
    host.hook = Some(Box::new(move |call, _| if call == at { Err("the end".into()) } else { Ok(()) }));
    host
}

#[test]
fn a_probe_that_was_cut_off_goes_on_and_finds_the_same_t() {
    for reorthogonalize in ["\"full\"", "{ window = 3 }", "\"none\""] {
        let directory = tempfile::tempdir().unwrap();
        let slq = format!("[slq]\nsteps = 12\nprobes = 2\nreorthogonalize = {reorthogonalize}\n");
        let mut whole = probe(&directory.path().join("whole"), &slq);
        let expected = whole.probe(5, &mut host()).unwrap().clone();
        // In the first run, between runs, in the second; and cut off more than once.
        let products = expected.cost.calibration_gradients + 1;
        for cuts in [vec![products + 12], vec![products + 16], vec![products + 23], vec![products + 10, 9, 6]]
        {
            let logs = directory.path().join(format!("{cuts:?}"));
            let toml = format!("{slq}[resume]\nevery = 2");
            for &cut in &cuts {
                let mut probe = probe(&logs, &toml);
                assert!(probe.probe(5, &mut ends_at(cut)).is_err());
                assert!(logs.join("krylov/step-5/state").exists(), "{cuts:?}");
            }
            let mut host = host();
            let mut probe = probe(&logs, &toml);
            let snapshot = probe.probe(5, &mut host).unwrap();
            assert!(host.calls < expected.cost.gradients - 4, "{cuts:?}: {} gradients", host.calls);
            assert_eq!(
                snapshot.probes, expected.probes,
                "{reorthogonalize}, {cuts:?}: the same T, bit for bit"
            );
            assert_eq!(snapshot.hvp, expected.hvp);
            // g(θ₀) once more for each process that came as far as to save something.
            let again = snapshot.cost.gradients - expected.cost.gradients;
            assert!((1..=cuts.len() as u64).contains(&again), "{cuts:?}: {again}");
            assert!(!logs.join("krylov/step-5").exists(), "a probe that is complete leaves nothing");
            // And what it learned is what the undisturbed one learned.
            assert_eq!(probe.state_dict()["calibration"], whole.state_dict()["calibration"]);
        }
    }
}

#[test]
fn a_saved_probe_of_other_parameters_data_or_configuration_or_a_damaged_one_is_not_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let toml = |steps: usize| format!("[slq]\nsteps = {steps}\n[resume]\nevery = 1");
    type Change = fn(&mut ClosureHost, &Path);
    let changes: [(&str, Change, usize, u64); 7] = [
        ("nothing", |_, _| {}, 10, 5),
        (
            "a parameter",
            |host, _| tch::no_grad(|| drop(host.parameters[0].view([-1]).get(7).fill_(0.125))),
            10,
            5,
        ),
        ("the configuration", |_, _| {}, 9, 5),
        ("the step", |_, _| {}, 10, 6),
        ("an entry of T, with a right checksum", |_, path| shorten(&path.join("state")), 10, 5),
        ("a byte of the state", |_, path| flip(&path.join("state")), 10, 5),
        ("a byte of a vector", |_, path| flip(&path.join("run-0-vector-2.rank-0-of-1.safetensors")), 10, 5),
    ];
    for (number, (what, change, steps, step)) in changes.into_iter().enumerate() {
        let logs = directory.path().join(number.to_string());
        assert!(probe(&logs, &toml(10)).probe(5, &mut ends_at(16)).is_err());
        let mut changed = host();
        change(&mut changed, &logs.join("krylov/step-5"));
        let mut fresh = host();
        change(&mut fresh, Path::new("/nonexistent"));
        let mut undisturbed =
            probe(&directory.path().join("undisturbed"), &format!("[slq]\nsteps = {steps}"));
        let expected = undisturbed.probe(step, &mut fresh).unwrap();
        let mut resumed = probe(&logs, &toml(steps));
        let snapshot = resumed.probe(step, &mut changed).unwrap();
        // g(θ₀) and a gradient for each product; where a vector is damaged the noise is still known.
        assert_eq!(changed.calls <= steps as u64, what == "nothing", "{what}: {} gradients", changed.calls);
        assert_eq!(snapshot.probes, expected.probes, "{what}");
    }
}

/// With second moments, as after some steps of Adam, times `size`.
fn adaptive(mut host: ClosureHost, size: f64) -> ClosureHost {
    let moments: Vec<Tensor> = host.graph(false).1.iter().map(|g| (g.square() + 1e-4) * size).collect();
    host.lend(OptimizerKind::Adam { betas: (0.9, 0.99), eps: 1e-8 }, 1e-3, 7, moments);
    host
}

#[test]
fn a_probe_of_the_preconditioned_operator_goes_on_from_either_kind_of_run() {
    for (operator, reorthogonalize) in
        [("both", "\"full\""), ("both", "{ window = 3 }"), ("preconditioned", "\"none\"")]
    {
        let directory = tempfile::tempdir().unwrap();
        let slq = |operator: &str| {
            format!(
                "[slq]\nsteps = 12\nprobes = 2\nreorthogonalize = {reorthogonalize}\noperator = \"{operator}\"\n"
            )
        };
        let toml = format!("{}[resume]\nevery = 2", slq(operator));
        let mut whole = probe(&directory.path().join("whole"), &slq(operator));
        let expected = whole.probe(5, &mut adaptive(host(), 1.0)).unwrap().clone();
        let mut hessian = probe(&directory.path().join("hessian"), &slq("hessian"));
        let hessian = &hessian.probe(5, &mut adaptive(host(), 1.0)).unwrap().cost;
        let measured = expected.cost.calibration_gradients + 1;
        let first = if operator == "both" { hessian.gradients } else { measured };
        // In a run on the Hessian, between it and the first on the other operator, in this, between two, in the last one;
        // and more than once.
        let early = if operator == "both" { measured + 16 } else { measured + 4 };
        for cuts in [
            vec![early],
            vec![first + 1],
            vec![first + 6],
            vec![first + 16],
            vec![expected.cost.gradients - 2],
            vec![first + 6, 6, 9],
        ] {
            let logs = directory.path().join(format!("{cuts:?}"));
            for &cut in &cuts {
                let mut host = adaptive(host(), 1.0);
                host.hook =
                    Some(Box::new(move |call, _| if call == cut { Err("the end".into()) } else { Ok(()) }));
                assert!(probe(&logs, &toml).probe(5, &mut host).is_err());
            }
            let mut host = adaptive(host(), 1.0);
            let mut resumed = probe(&logs, &toml);
            let snapshot = resumed.probe(5, &mut host).unwrap();
            let saved = cuts[0] - measured;
            assert!(host.calls + saved <= expected.cost.gradients + 5, "{operator} {cuts:?}: {}", host.calls);
            let told = format!("{operator} {reorthogonalize} {cuts:?}: the same T, bit for bit");
            assert_eq!(snapshot.probes, expected.probes, "{told}");
            assert_eq!(snapshot.preconditioned, expected.preconditioned, "{told}");
            assert_eq!(snapshot.hvp, expected.hvp);
            assert!(!logs.join("krylov/step-5").exists());
            assert_eq!(resumed.state_dict()["calibration"], whole.state_dict()["calibration"]);
        }
        // Of another P nothing is taken up.
        let logs = directory.path().join("other");
        let mut host = adaptive(ends_at(first + 6), 1.0);
        assert!(probe(&logs, &toml).probe(5, &mut host).is_err());
        let mut host = adaptive(self::host(), 2.0);
        let snapshot = probe(&logs, &toml).probe(5, &mut host).unwrap().clone();
        let fresh = probe(&directory.path().join("fresh"), &slq(operator))
            .probe(5, &mut adaptive(self::host(), 2.0))
            .unwrap()
            .clone();
        assert_eq!(snapshot.preconditioned, fresh.preconditioned);
        assert_eq!(host.calls, fresh.cost.gradients);
    }
}

/// Takes the last β out of a saved state, and puts the right length and checksum on it.
fn shorten(path: &Path) {
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let body = text.split_once('\n').unwrap().1;
    let mut state: serde_json::Value = serde_json::from_str(body).unwrap();
    state["lanczos"]["run"]["beta"].as_array_mut().unwrap().pop().unwrap();
    let body = state.to_string();
    let head = format!("hessian-probe-krylov 3 {} {:08x}", body.len(), crc32c::crc32c(body.as_bytes()));
    std::fs::write(path, format!("{head}\n{body}")).unwrap();
}

fn flip(path: &Path) {
    let Ok(mut bytes) = std::fs::read(path) else { return };
    let middle = bytes.len() - 9;
    bytes[middle] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_log_directory_that_is_deleted_is_made_again_by_the_next_record() {
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    let mut host = host();
    let mut probe = probe(&logs, "[schedule]\nevery = 1\n[slq]\nsteps = 2");
    probe.on_step_end(0, &mut host).unwrap();
    probe.on_train_end(&mut host).unwrap();
    std::fs::remove_dir_all(&logs).unwrap();
    probe.on_step_end(1, &mut host).unwrap();
    probe.on_step_end(2, &mut host).unwrap();
    drop(probe);
    let records: Vec<Record> =
        read_jsonl(logs.join("snapshots.jsonl")).unwrap().collect::<Result<_, _>>().unwrap();
    let steps: Vec<Option<u64>> = records
        .iter()
        .map(|record| if let Record::Snapshot(snapshot) = record { Some(snapshot.step) } else { None })
        .collect();
    assert_eq!(steps, [None, Some(1), Some(2)], "the session, and what came after");
    let events = std::fs::read_dir(&logs)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("events.out"))
        .count();
    assert_eq!(events, 1);
}
