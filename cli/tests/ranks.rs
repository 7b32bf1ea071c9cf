//! One process, processes of `--ranks`, processes that others started: the same report up to rounding.

mod common;

use common::llama::{Example, Shape};
use common::{Case, assert_close, program, read_report, text, tokens};
use hessian_probe::Snapshot;
use hessian_probe_c10d::StoreServer;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn case(sequences: &[(i64, i64)]) -> Case {
    case_of(&Shape { layers: 2, ..Shape::small(4) }, sequences)
}

fn case_of(shape: &Shape, sequences: &[(i64, i64)]) -> Case {
    let lines: Vec<String> = sequences
        .iter()
        .map(|&(seed, length)| Example::new(&tokens(seed, length, shape.vocabulary), None).line())
        .collect();
    Case::new(shape, &lines)
}

/// The first ten steps of each T to 10⁻⁶‖T‖, and what follows from T as far as that says.
fn same_in_f64(one: &Snapshot, other: &Snapshot) {
    let what = |name: &str| format!("{name} on {} ranks", other.world_size);
    assert_eq!((one.parameters, one.tokens, one.seed), (other.parameters, other.tokens, other.seed));
    assert_close(other.loss, one.loss, 1e-12 * one.loss, &what("the loss"));
    assert_close(other.gradient_norm, one.gradient_norm, 1e-10 * one.gradient_norm, &what("‖g‖"));
    for (a, b) in one.probes.iter().zip(&other.probes) {
        let norm = a.nodes.iter().fold(0.0_f64, |norm, node| norm.max(node.abs()));
        for j in 0..10 {
            assert_close(b.alpha[j], a.alpha[j], 1e-6 * norm, &what("α"));
            assert_close(b.beta[j], a.beta[j], 1e-6 * norm, &what("β"));
        }
    }
    let nodes = one.probes.iter().flat_map(|run| &run.nodes);
    let (norm, n) = (nodes.fold(0.0_f64, |norm, node| norm.max(node.abs())), one.parameters as f64);
    for (a, b, name) in
        [(one.lambda_max, other.lambda_max, "λ_max"), (one.lambda_min, other.lambda_min, "λ_min")]
    {
        assert_close(b.value, a.value, 1e-6 * norm, &what(name));
        assert_close(b.lanczos_residual, a.lanczos_residual, 1e-6 * norm, &what("what Lanczos leaves"));
        same_noise(a.hvp_error, b.hvp_error, &what("the error of the products"));
    }
    for (a, b, scale, name) in [
        (one.trace, other.trace, n * norm, "the trace"),
        (one.frobenius_norm, other.frobenius_norm, n.sqrt() * norm, "‖H‖_F"),
    ] {
        assert_close(b.mean, a.mean, 1e-6 * scale, &what(name));
        let errors = [a, b].map(|estimate| estimate.standard_error.expect("several probe vectors"));
        assert_close(errors[1], errors[0], 1e-6 * scale, &what("the standard error"));
    }
    same_noise(one.unresolved.floor, other.unresolved.floor, &what("the floor"));
}

/// Other sums have other rounding errors, of the same size.
#[track_caller]
fn same_noise(one: f64, other: f64, what: &str) {
    assert!(one > 0.0 && (0.5..2.0).contains(&(other / one)), "{what}: {other:e} instead of {one:e}");
}

#[test]
fn reports_of_1_2_and_4_ranks_agree_also_with_fewer_sequences_than_ranks() {
    for case in [case(&[(1, 9), (2, 6), (3, 13), (4, 3), (5, 9)]), case(&[(1, 12)])] {
        let flags = |ranks| ["--dtype", "f64", "--steps", "12", "--ranks", ranks];
        let one = case.report(&flags("1"));
        for ranks in ["2", "4"] {
            let report = case.report(&flags(ranks));
            assert_eq!(report.world_size.to_string(), ranks);
            same_in_f64(&one, &report);
        }
    }
}

#[test]
fn lambda_max_and_trace_agree_in_f32() {
    // Weights of the size that training begins with.
    let shape = Shape { layers: 2, std: 0.1, head_std: 0.1, ..Shape::small(4) };
    let case = case_of(&shape, &[(1, 9), (2, 6), (3, 13)]);
    let one = case.report(&["--steps", "12"]);
    for ranks in ["2", "4"] {
        let other = case.report(&["--steps", "12", "--ranks", ranks]);
        let scale = one.lambda_max.value.abs();
        assert_close(other.lambda_max.value, one.lambda_max.value, 1e-4 * scale, "λ_max");
        let run = &one.probes[0];
        let scale = run.nodes.iter().zip(&run.weights).map(|(x, w)| (x * w).abs()).sum::<f64>();
        assert_close(other.trace.mean, one.trace.mean, 1e-4 * scale * one.parameters as f64, "the trace");
    }
}

/// torchrun's agent hosts the store at which ranks meet, so that rank 0 is a client of it like all others; and it sets
/// more than is needed.
#[test]
fn under_torchruns_environment_ranks_meet_at_its_agents_store() {
    let case = case(&[(1, 9), (2, 6)]);
    let one = case.report(&["--dtype", "f64", "--steps", "12"]);
    std::fs::remove_file(case.path("report.json")).unwrap();
    let store = StoreServer::host(0).unwrap();
    let start = |rank: usize| {
        let mut command = case.command(&["--dtype", "f64", "--steps", "12"]);
        for (name, value) in [("RANK", rank), ("LOCAL_RANK", rank), ("ROLE_RANK", rank), ("GROUP_RANK", 0)] {
            command.env(name, value.to_string());
        }
        for name in ["WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"] {
            command.env(name, "2");
        }
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", store.port().to_string());
        command.env("TORCHELASTIC_USE_AGENT_STORE", "True").env("TORCHELASTIC_RUN_ID", "none");
        command.env("TORCHELASTIC_RESTART_COUNT", "0").env("TORCHELASTIC_MAX_RESTARTS", "0");
        command.env("TORCHELASTIC_ERROR_FILE", case.path("error.json")).env("GROUP_WORLD_SIZE", "1");
        command.env("GLOO_SOCKET_IFNAME", "lo");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let [first, second] = [start(0), start(1)].map(|rank| rank.wait_with_output().unwrap());
    assert!(first.status.success() && second.status.success(), "{}", text(&first.stderr));
    assert_eq!(text(&second.stdout) + &text(&second.stderr), "");
    same_in_f64(&one, &read_report(&case.path("report.json")));
}

/// PyTorch's own launcher: `pip install torch`, then `HESSIAN_PROBE_TORCHRUN=.../bin/torchrun cargo test -p
/// hessian-probe-cli --test ranks -- --ignored`.
#[test]
#[ignore = "needs PyTorch with all it depends on, several GB; HESSIAN_PROBE_TORCHRUN must name its torchrun"]
fn torchrun_starts_ranks_that_find_what_one_process_finds() {
    let torchrun = std::env::var_os("HESSIAN_PROBE_TORCHRUN").expect("HESSIAN_PROBE_TORCHRUN");
    let case = case(&[(1, 9), (2, 6)]);
    let one = case.report(&["--dtype", "f64", "--steps", "12"]);
    std::fs::remove_file(case.path("report.json")).unwrap();
    let probe = case.command(&["--dtype", "f64", "--steps", "12"]);
    let under_torchrun = |probe: &Command| {
        let mut command = Command::new(&torchrun);
        command
            .args(["--no-python", "--nproc-per-node", "2"])
            .arg(probe.get_program())
            .args(probe.get_args());
        command.output().unwrap()
    };
    let output = under_torchrun(&probe);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).matches("λ_max").count(), 1, "one rank speaks");
    let report = read_report(&case.path("report.json"));
    assert_eq!(report.world_size, 2);
    same_in_f64(&one, &report);
    // A rank that fails fails the launch, and one of them says why.
    case.write_data("");
    let output = under_torchrun(&probe);
    assert!(!output.status.success());
    assert_eq!(text(&output.stderr).matches("error: ").count(), 1, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("is empty"), "{}", text(&output.stderr));
}

/// The least that a launcher sets: the environment says who is who, and rank 0 hosts the store.
#[test]
fn ranks_that_others_started_find_each_other_and_one_of_them_writes() {
    let case = case(&[(1, 9), (2, 6)]);
    let one = case.report(&["--dtype", "f64", "--steps", "12"]);
    std::fs::remove_file(case.path("report.json")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let run = |flags: &[&str]| {
        let start = |rank: usize| {
            let mut command = case.command(flags);
            command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
            command.env("WORLD_SIZE", "2").env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port);
            command.env("GLOO_SOCKET_IFNAME", "lo");
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        [start(0), start(1)].map(|rank| rank.wait_with_output().unwrap())
    };
    let [first, second] = run(&["--dtype", "f64", "--steps", "12"]);
    assert!(first.status.success() && second.status.success(), "{}", text(&first.stderr));
    assert!(text(&first.stdout).contains("λ_max"));
    assert_eq!(text(&second.stdout) + &text(&second.stderr), "");
    same_in_f64(&one, &read_report(&case.path("report.json")));

    // Two opinions on the number of ranks: rank 0 says so.
    std::fs::remove_file(case.path("report.json")).unwrap();
    let [first, second] = run(&["--ranks", "3"]);
    assert!(case.error_of(&first).contains("--ranks 3, but 2"));
    assert_eq!((second.status.code(), text(&second.stderr)), (Some(1), String::new()));
    // And of a wrong command line.
    let [first, second] = run(&["--steps", "many"]);
    assert!(text(&first.stderr).contains("--steps"));
    assert_eq!((second.status.code(), text(&second.stderr)), (Some(2), String::new()));
}

#[test]
fn ctrl_c_ends_the_probe_with_130_and_no_report() {
    let case = case(&[(1, 9), (2, 6)]);
    for ranks in ["1", "2"] {
        // Steps enough for minutes.
        let mut command = case.command(&["--dtype", "f64", "--probes", "100000", "--ranks", ranks, "-v"]);
        // A directory of the log appears when the probe begins.
        let logdir = case.path(&format!("log-{ranks}"));
        command.arg("--logdir").arg(&logdir);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !logdir.join("snapshots.jsonl").exists() {
            assert!(Instant::now() < deadline, "the probe does not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        // SAFETY: a system call with the number of a child that was not waited for.
        unsafe { libc::kill(libc::pid_t::try_from(child.id()).unwrap(), libc::SIGINT) };
        let asked = Instant::now();
        let output = child.wait_with_output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{message}");
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        assert_eq!(message.matches("error: interrupted").count(), 1, "{message}");
        assert!(!case.path("report.json").exists());
    }
}

#[test]
fn help_has_flags_and_defaults() {
    let output = program().args(["spectrum", "--help"]).output().unwrap();
    let help = text(&output.stdout);
    for part in [
        "--model",
        "--data",
        "--out",
        "[default: 20]",
        "auto, forward, central",
        "[default: f32]",
        "relative=1e-6",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
}
