//! The law of costs against what real probes tell, and what their host counts.

use crate::closure_host::ClosureHost;
use crate::models::{mlp, transformer};
use hessian_probe::cost::{Course, Facts, Machine, Memory, Plan, Products, Question, Types, Work};
use hessian_probe::sharded::Layout;
use hessian_probe::{HessianProbe, ProbeConfig, Snapshot};
use std::time::Duration;
use tch::Kind;

const SILENT: &str = "\n[log]\ntensorboard = false\njsonl = false";

fn config(toml: &str) -> ProbeConfig {
    ProbeConfig::from_toml_str(&format!("{toml}{SILENT}")).unwrap()
}

fn facts(host: &ClosureHost, config: &ProbeConfig) -> Facts {
    Facts::of(host, &Layout::new(host, config.slq.dtype).unwrap(), config)
}

/// Snapshots one after the other, and the gradients that the host counted for each.
fn probes(host: &mut ClosureHost, config: &ProbeConfig, count: u64) -> Vec<(Snapshot, u64)> {
    let mut probe = HessianProbe::new(config.clone()).unwrap();
    let take = |step| {
        let before = host.calls;
        let snapshot = probe.probe(step, host).unwrap().clone();
        (snapshot, host.calls - before)
    };
    (0..count).map(take).collect()
}

/// Everything but the distances of a calibration is known before.
#[test]
fn gradients_all_reduces_and_values_are_counted_before_a_probe_runs() {
    let mut kinds = 0;
    for difference in ["central", "central4", "forward", "exact"] {
        for (reorthogonalize, steps) in
            [("\"full\"", 7), ("{ window = 3 }", 10), ("\"none\"", 9), ("\"full\"", 1)]
        {
            for (distribution, count) in [("rademacher", 1), ("gaussian", 3)] {
                let config = config(&format!(
                    "[slq]\nsteps = {steps}\nprobes = {count}\nreorthogonalize = {reorthogonalize}\n\
                     distribution = \"{distribution}\"\n\
                     [hvp]\ndifference = \"{difference}\"\nstep_size = {{ absolute = 1e-4 }}"
                ));
                let mut host = ClosureHost::new(transformer(3), Kind::Double);
                let facts = facts(&host, &config);
                for (number, (snapshot, counted)) in probes(&mut host, &config, 2).iter().enumerate() {
                    let cost = &snapshot.cost;
                    let distances = cost.calibration_gradients.checked_sub(5).map(|points| points / 6);
                    assert_eq!(distances.is_some(), number == 0 && difference != "exact");
                    let course = Course::expected(&config, distances, 0.0, 0.0);
                    let work = Work::new(&facts, &config, &course).unwrap();
                    let place = format!("{difference} {reorthogonalize} {steps} {distribution} {number}");
                    assert_eq!(work.gradients, *counted, "{place}");
                    assert_eq!(work.gradients, cost.gradients, "{place}");
                    assert_eq!(work.calibration_gradients, cost.calibration_gradients, "{place}");
                    assert_eq!(work.all_reduces, cost.all_reduces, "{place}");
                    assert_eq!(work.reduced_values, cost.reduced_values, "{place}");
                    assert_eq!(course.products.exact, snapshot.hvp.exact, "{place}");
                    kinds += 1;
                }
            }
        }
    }
    assert_eq!(kinds, 4 * 4 * 2 * 2);
}

/// With automatic steps some products are computed again: how many can be read off the snapshot.
#[test]
fn the_course_of_a_probe_can_be_told_from_its_snapshot() {
    let mut redone = 0;
    for difference in ["auto", "central", "forward"] {
        for reorthogonalize in ["full", "none"] {
            let config = config(&format!(
                "[slq]\nsteps = 12\nprobes = 2\nreorthogonalize = \"{reorthogonalize}\"\n\
                 [hvp]\ndifference = \"{difference}\"\nmax_relative_error = 1e-3\nrecalibrate_every = 2"
            ));
            let mut host = ClosureHost::new(transformer(5), Kind::Float);
            let facts = facts(&host, &config);
            for (snapshot, counted) in probes(&mut host, &config, 3) {
                let course = Course::of(&snapshot, &config).unwrap();
                redone += course.redone.count();
                assert_eq!(course.redone.count(), snapshot.hvp.redone);
                assert_eq!(course.redone.gradients(), snapshot.hvp.redone_gradients);
                let work = Work::new(&facts, &config, &course).unwrap();
                assert_eq!((work.gradients, work.all_reduces), (counted, snapshot.cost.all_reduces));
                assert_eq!(work.reduced_values, snapshot.cost.reduced_values);
            }
        }
    }
    assert!(redone > 0, "something was computed again");
}

#[test]
fn formulas_of_a_run_are_those_that_a_probe_takes() {
    for steps in [1, 2, 9, 10, 19] {
        let toml = format!(
            "[slq]\nsteps = {steps}\n[hvp]\ndifference = \"forward\"\nstep_size = {{ absolute = 1e-4 }}"
        );
        let config = config(&toml);
        let (snapshot, _) = probes(&mut ClosureHost::new(mlp(1), Kind::Double), &config, 1).remove(0);
        let expected = Products::of_run(config.hvp.difference, steps);
        assert_eq!((expected.forward, expected.central), (snapshot.hvp.forward, snapshot.hvp.central));
    }
}

#[test]
fn memory_is_what_a_probe_allocates() {
    for (kind, width) in [(Kind::Float, 4), (Kind::Double, 8), (Kind::BFloat16, 2)] {
        for slq in [
            "",
            "reorthogonalize = \"none\"\nbasis = { dtype = \"bf16\" }",
            "reorthogonalize = { window = 3 }\nbasis = { dtype = \"bf16\" }",
            "reorthogonalize = \"partial\"\nbasis = { dtype = \"f32\", device = \"cpu\" }",
            "basis = { dtype = \"f64\" }",
            "dtype = \"f64\"",
            "steps = 1",
        ] {
            let slq = if slq.contains("steps") { slq.to_owned() } else { format!("steps = 5\n{slq}") };
            let config = config(&format!("[slq]\n{slq}"));
            let mut host = ClosureHost::new(mlp(1), kind);
            let facts = facts(&host, &config);
            assert_eq!((facts.entries, facts.parameters), (149, 149 * width));
            let memory = Memory::new(&facts, &config, 0).unwrap();
            let (snapshot, _) = probes(&mut host, &config, 1).remove(0);
            let place = format!("{kind:?} {slq}");
            assert_eq!(memory.basis_bytes(), snapshot.cost.basis_bytes, "{place}");
            assert_eq!(memory.vector_bytes(), snapshot.cost.vector_bytes, "{place}");
            assert_eq!(memory.total(), snapshot.cost.basis_bytes + snapshot.cost.vector_bytes, "{place}");
            let named: u64 = memory.named().iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(named, memory.total() + memory.pieces, "{place}");
        }
    }
}

/// The first probe has no vector of an earlier one beside its own.
#[test]
fn tracking_keeps_the_vectors_that_the_law_says() {
    for (slq, kept) in [("", 2), ("reorthogonalize = \"none\"", 1), ("reorthogonalize = { window = 3 }", 1)] {
        let config = config(&format!("[slq]\nsteps = 5\n{slq}\n[track]\nevery = 1"));
        let mut host = ClosureHost::new(mlp(1), Kind::Double);
        let memory = Memory::new(&facts(&host, &config), &config, 0).unwrap();
        assert_eq!(memory.tracking, kept * 149 * 8, "{slq}");
        let found: Vec<u64> =
            probes(&mut host, &config, 2).iter().map(|(snapshot, _)| snapshot.cost.vector_bytes).collect();
        let rest = memory.vector_bytes() - memory.tracking;
        assert_eq!(found, [rest + (kept - 1) * 149 * 8, rest + 2 * (kept - 1) * 149 * 8], "{slq}");
    }
}

#[test]
fn deflated_outliers_take_no_more_than_the_law_says() {
    let config = config("[slq]\nsteps = 8\ndeflate = 3");
    let mut host = ClosureHost::new(mlp(1), Kind::Double);
    let memory = Memory::new(&facts(&host, &config), &config, 0).unwrap();
    let (snapshot, _) = probes(&mut host, &config, 1).remove(0);
    assert_eq!(memory.outliers, 3 * 149 * 8);
    assert!(!snapshot.probes[0].deflated.is_empty());
    assert!(snapshot.cost.basis_bytes > memory.basis && snapshot.cost.basis_bytes <= memory.basis_bytes());
}

/// A host whose gradients take a known time.
#[test]
fn the_parts_of_a_probe_add_up_to_its_time() {
    const SLEEP: Duration = Duration::from_millis(3);
    let config = config("[slq]\nsteps = 6\nprobes = 2\n[blocks]\nby = \"tensor\"\nspectrum_steps = 2");
    let mut host = ClosureHost::new(mlp(1), Kind::Double);
    host.hook = Some(Box::new(|_, _| {
        std::thread::sleep(SLEEP);
        Ok(())
    }));
    for (number, (snapshot, _)) in probes(&mut host, &config, 2).iter().enumerate() {
        let (cost, parts) = (&snapshot.cost, snapshot.cost.parts);
        assert!(parts.named().iter().all(|(_, seconds)| *seconds >= 0.0), "{parts:?}");
        assert!((parts.total() - cost.seconds).abs() <= 1e-6 * cost.seconds, "{parts:?} {}", cost.seconds);
        let own = (cost.gradients - cost.calibration_gradients) as f64 * SLEEP.as_secs_f64();
        assert!(parts.gradients >= own && parts.gradients <= cost.gradient_seconds);
        let calibrating = cost.calibration_gradients as f64 * SLEEP.as_secs_f64();
        assert!(parts.calibration >= calibrating);
        assert_eq!(parts.calibration > 0.0, number == 0);
        // All but the sleep is small here: nothing of it has been counted twice, or in another part.
        let vectors = parts.vector_work();
        assert!(parts.products > 0.0 && parts.lanczos > 0.0 && parts.drawing > 0.0 && parts.blocks > 0.0);
        assert!(vectors < 0.5 * parts.gradients, "{parts:?}");
    }
}

/// What a plan says of a probe, given the time that each of its gradients took, is what the probe takes.
#[test]
fn a_plan_foretells_a_real_probe() {
    let config = config(
        "[slq]\nsteps = 15\nprobes = 2\n\
         [hvp]\ndifference = \"central\"\nstep_size = { relative = 1e-4 }\nrecalibrate_every = 3",
    );
    let mut host = ClosureHost::new(transformer(1), Kind::Double);
    host.hook = Some(Box::new(|_, _| {
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }));
    let facts = facts(&host, &config);
    let machine = Machine::of_bandwidth(1e10).unwrap();
    let found = probes(&mut host, &config, 4);
    for (number, (snapshot, counted)) in found.iter().enumerate() {
        let cost = &snapshot.cost;
        // Of this probe, since a busy machine is slower in one than in another.
        let gradient_seconds = cost.gradient_seconds / cost.gradients as f64;
        let question =
            Question { redone: 0.0, ..Question::new(facts, config.clone(), machine, gradient_seconds) };
        let plan = Plan::new(&question).unwrap();
        let calibrates = number % 3 == 0;
        let (work, seconds) = match calibrates {
            true => (plan.calibrating, plan.calibrating_seconds),
            false => (plan.work, plan.seconds),
        };
        // One distance is assumed; more may be needed.
        let more = cost.calibration_gradients.saturating_sub(work.calibration_gradients);
        assert_eq!((work.gradients + more, calibrates), (*counted, cost.calibration_gradients > 0));
        if more == 0 {
            assert_eq!((work.all_reduces, work.reduced_values), (cost.all_reduces, cost.reduced_values));
        }
        assert_eq!(plan.memory.total(), cost.basis_bytes + cost.vector_bytes);
        let expected = seconds.total() + more as f64 * gradient_seconds;
        assert!(
            cost.seconds < 4.0 * expected && expected < 4.0 * cost.seconds,
            "{expected} {}",
            cost.seconds
        );
    }
}

#[test]
fn what_cannot_be_planned_is_refused_with_its_reason() {
    let plain = || config("[slq]\nsteps = 5");
    let machine = Machine::of_bandwidth(1e10).unwrap();
    let few = Facts::planned(1000, 1000, 1, 3, Types::default()).unwrap();
    let ask = |change: &dyn Fn(&mut Question)| {
        let mut question = Question::new(few, plain(), machine, 1.0);
        change(&mut question);
        Plan::new(&question).unwrap_err().to_string()
    };
    for (told, message) in [
        ("0 ranks", Facts::planned(10, 10, 0, 1, Types::default()).unwrap_err().to_string()),
        ("0 parameters", Facts::planned(0, 0, 1, 1, Types::default()).unwrap_err().to_string()),
        ("2^60", Facts::planned(u64::MAX, 10, 1, 1, Types::default()).unwrap_err().to_string()),
        ("holds 11 of 10", Facts::planned(10, 11, 1, 1, Types::default()).unwrap_err().to_string()),
        ("memory_bandwidth", Machine::of_bandwidth(-1.0).unwrap_err().to_string()),
        ("gradient_seconds", ask(&|q| q.gradient_seconds = 0.0)),
        ("gradient_seconds", ask(&|q| q.gradient_seconds = f64::NAN)),
        ("plan.redone", ask(&|q| q.redone = 1.5)),
        ("machine.drawn", ask(&|q| q.machine.drawn = f64::INFINITY)),
        ("machine.piece_seconds", ask(&|q| q.machine.piece_seconds = -1.0)),
        ("max_overhead", ask(&|q| (q.step_seconds, q.max_overhead) = (Some(1.0), Some(0.0)))),
        ("slq.steps", ask(&|q| q.config.slq.steps = usize::MAX)),
        ("slq.deflate", ask(&|q| q.config.slq.deflate = 2)),
        ("slq.operator", ask(&|q| q.config = config("[slq]\noperator = \"both\""))),
        (
            "64 bits",
            ask(&|q| {
                q.facts = Facts::planned(1 << 60, 1 << 60, 1, 1, Types::default()).unwrap();
                q.config.slq.steps = 1 << 20;
            }),
        ),
    ] {
        assert!(message.contains(told) && message.starts_with("configuration: `"), "{told}: {message}");
    }
}

#[test]
fn a_plan_keeps_to_memory_and_to_the_share_of_training_time() {
    use hessian_probe::config::Reorthogonalize;
    let machine = Machine::of_bandwidth(1e12).unwrap();
    let types = Types { accelerated: true, ..Types::default() };
    let facts = Facts::planned(8_000_000_000, 1_000_000_000, 8, 300, types).unwrap();
    let of = |memory: u64, max_overhead: f64| {
        let question = Question {
            memory: Some(memory),
            step_seconds: Some(2.0),
            max_overhead: Some(max_overhead),
            ..Question::new(facts, config(""), machine, 1.5)
        };
        Plan::new(&question).unwrap()
    };
    let mut kept = Vec::new();
    for gigabytes in [100, 80, 30, 23, 18, 5] {
        let plan = of(gigabytes * 1_000_000_000, 0.01);
        if let Some(choice) = plan.recommended() {
            assert!(choice.memory.on_device() <= gigabytes * 1_000_000_000);
            kept.push((choice.reorthogonalize, choice.basis.dtype.is_some(), choice.basis.device.is_some()));
        } else {
            assert!(plan.choices.iter().all(|choice| choice.fits == Some(false)));
        }
        let every = plan.every.unwrap() as f64;
        let probe = plan.recommended().map_or(plan.mean_seconds, |choice| choice.mean_seconds);
        assert!(every * 2.0 * 0.01 >= probe && (every - 1.0) * 2.0 * 0.01 < probe);
    }
    // Unrounded elsewhere before rounded here: five vectors and the temporaries are left.
    assert_eq!(kept[0], (Reorthogonalize::Full, false, false));
    assert!(kept.len() == 4 && kept[1..].iter().all(|way| way.2), "{kept:?}");
    assert!(of(1, 0.02).every.unwrap() < of(1, 0.01).every.unwrap());
    assert_eq!(of(1, 1e12).every, Some(1));
}

/// A basis in the CPU's memory leaves the accelerator what it takes without one, whatever m is: rows come back a few at a time.
#[test]
fn what_is_on_the_device_does_not_grow_with_m_where_the_basis_is_elsewhere() {
    let types = Types { accelerated: true, ..Types::default() };
    let facts = Facts::planned(7_000_000_000, 875_000_000, 8, 291, types).unwrap();
    let memory = |steps: usize, basis: &str| {
        let config = config(&format!("[slq]\nsteps = {steps}\nreorthogonalize = \"full\"\n{basis}"));
        Memory::new(&facts, &config, 0).unwrap()
    };
    let elsewhere = "basis = { device = \"cpu\" }";
    let [few, more, most] = [16, 64, 256].map(|steps| memory(steps, elsewhere));
    assert_eq!((few.on_device(), more.on_device()), (more.on_device(), most.on_device()));
    assert_eq!((4 * few.elsewhere, 4 * more.elsewhere), (more.elsewhere, most.elsewhere));
    // Five vectors: θ₀, g(θ₀), one of work, the last two of the basis; and what is converted, which is no vector's size.
    let vector = 4 * facts.entries;
    assert_eq!(most.on_device() - most.pieces, 5 * vector);
    assert!(most.pieces < vector / 2, "{most:?}");
    assert!(memory(64, "").on_device() > memory(16, "").on_device() + 47 * vector);
}
