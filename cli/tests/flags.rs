//! What flags of `hessian-probe spectrum` change.

mod common;

use common::llama::{Example, Shape};
use common::{Case, assert_close, text, tokens};

#[test]
fn the_flags_reach_the_probe_and_the_log() {
    let shape = Shape::small(2);
    let case = Case::new(&shape, &[Example::new(&tokens(1, 9, shape.vocabulary), None).line()]);
    let logdir = case.path("log");
    let mut command = case.command(&["--dtype", "f64", "--steps", "5", "--probes", "3", "--seed", "17"]);
    command.args(["--difference", "central", "--step-size", "absolute=1e-4", "--reorthogonalize", "3"]);
    command.args(["--threads", "1", "--logdir"]).arg(&logdir);
    let report = case.report_of(command);
    assert_eq!(report.seed, 17);
    assert_eq!(report.probes.iter().map(|probe| probe.alpha.len()).collect::<Vec<_>>(), [5, 5, 5]);
    assert_eq!((report.hvp.central, report.hvp.forward), (15, 0));
    assert_eq!((report.hvp.step_min, report.hvp.step_max), (1e-4, 1e-4));
    assert_eq!(report.cost.basis_bytes, 3 * 8 * shape.parameters());

    let logged = std::fs::read_to_string(logdir.join("snapshots.jsonl")).unwrap();
    let snapshot = logged.lines().find(|line| line.contains("\"record\":\"snapshot\"")).unwrap();
    assert_eq!(serde_json::from_str::<hessian_probe::Snapshot>(snapshot).unwrap(), report);
    let events = std::fs::read_dir(&logdir).unwrap().filter_map(Result::ok);
    assert!(events.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("tfevents")));

    // Formulas and memory are on the terminal, too.
    let output =
        case.command(&["--dtype", "f64", "--steps", "3", "--difference", "central4"]).output().unwrap();
    let (table, again) = (text(&output.stdout), common::read_report(&case.path("report.json")));
    assert_eq!((again.hvp.central4, again.hvp.central), (6, 0));
    assert!(table.contains("6 by central differences of fourth order"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("peak memory")), "{table}");
    // Outliers that are deflated are found by a run of their own.
    let deflated =
        case.report(&["--dtype", "f64", "--steps", "12", "--deflate", "2", "--reorthogonalize", "partial"]);
    assert!(deflated.probes.iter().all(|probe| probe.deflated.len() == 2), "{:?}", deflated.probes);

    // Shown from either file.
    for file in [case.path("report.json"), logdir.join("snapshots.jsonl")] {
        let shown = common::program().arg("show").arg(&file).output().unwrap();
        assert!(shown.status.success(), "{}", text(&shown.stderr));
        let table = text(&shown.stdout);
        assert!(table.contains("λ_max") && table.contains(&format!("{}", shape.parameters())), "{table}");
    }
    let shown = common::program().arg("show").arg(case.path("data.jsonl")).output().unwrap();
    assert_eq!(shown.status.code(), Some(1));
    assert!(text(&shown.stderr).contains("neither a report"), "{}", text(&shown.stderr));
}

#[test]
fn keeping_graphs_changes_no_number() {
    let shape = Shape { tied: true, layers: 2, ..Shape::small(2) };
    let case = Case::new(&shape, &[Example::new(&tokens(1, 9, shape.vocabulary), None).line()]);
    for ranks in ["1", "2"] {
        let flags = ["--dtype", "f64", "--steps", "4", "--probes", "2", "--ranks", ranks];
        let [again, kept] =
            [&[][..], &["--keep-graphs"]].map(|more| case.report(&[&flags[..], more].concat()));
        assert_eq!(again.loss.to_bits(), kept.loss.to_bits());
        assert_eq!(again.probes, kept.probes, "{ranks} ranks");
    }
}

#[test]
fn a_relative_step_is_a_multiple_of_the_norm_of_the_parameters() {
    let shape = Shape::small(2);
    let case = Case::new(&shape, &[Example::new(&tokens(1, 9, shape.vocabulary), None).line()]);
    let norm =
        shape.weights().iter().map(|(_, w)| w.square().sum(None).double_value(&[])).sum::<f64>().sqrt();
    let flags = ["--dtype", "f64", "--steps", "3", "--probes", "1", "--difference", "central", "--step-size"];
    for share in ["1e-6", "3e-5"] {
        let report = case.report(&[&flags[..], &[&format!("relative={share}")]].concat());
        let expected = share.parse::<f64>().unwrap() * norm;
        assert_close(report.parameter_norm, norm, 1e-12 * norm, "‖θ‖");
        assert_close(report.hvp.step_min, expected, 1e-12 * expected, "the smallest step");
        assert_close(report.hvp.step_max, expected, 1e-12 * expected, "the largest step");
    }
}

/// The most threads that a run has at a time.
#[cfg(target_os = "linux")]
fn most_threads(case: &Case, threads: &str) -> usize {
    let mut command = case.command(&["--steps", "6", "--probes", "1", "--threads", threads]);
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    let mut most = 0;
    loop {
        // It goes away with the process.
        most = std::fs::read_dir(&tasks).map_or(most, |entries| most.max(entries.count()));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return most;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn libtorch_computes_in_as_many_threads_as_are_asked_for() {
    // Large enough for work to be shared: below 32,768 elements libtorch does it alone.
    let shape = Shape {
        vocabulary: 512,
        hidden: 128,
        inner: 384,
        layers: 2,
        heads: 4,
        key_value_heads: 2,
        ..Shape::small(7)
    };
    let case = Case::new(&shape, &[Example::new(&tokens(1, 12, 512), None).line()]);
    let [one, four] = ["1", "4"].map(|threads| most_threads(&case, threads));
    // Each of libtorch's threads that walk graphs has helpers of its own.
    assert!(four >= one + 3, "{four} threads for 4, {one} for 1");
}
