//! Bad input is an error that names the key and the reason, before any training step.

#[path = "support/closure_host.rs"]
mod closure_host;
#[path = "support/models.rs"]
#[expect(dead_code, reason = "only the perceptron is needed")]
mod models;

use closure_host::ClosureHost;
use hessian_probe::blocks::{BlocksConfig, By};
use hessian_probe::{Callback, Control, Error, HessianProbe, OptimizerKind, ProbeConfig};
use tch::{Kind, Tensor};

const SILENT: &str = "\n[log]\njsonl = false\ntensorboard = false";

#[test]
fn an_impossible_value_names_its_key_and_the_reason() {
    for (toml, key, reason) in [
        ("[slq]\nsteps = 0", "slq.steps", "at least 1"),
        ("[slq]\nprobes = 0", "slq.probes", "at least 1"),
        ("[slq]\nreorthogonalize = { window = 1 }", "slq.reorthogonalize", "window of 1"),
        ("[schedule]\nevery = 0", "schedule.every", "more than 0"),
        ("[schedule]\nevery = \"0tok\"", "schedule.every", "more than 0"),
        ("[schedule]\nstart = 9\nstop = 9", "schedule.stop", "not after"),
        ("[hvp]\nstep_size = { absolute = 0.0 }", "hvp.step_size", "positive"),
        ("[hvp]\nstep_size = { relative = nan }", "hvp.step_size", "positive"),
        ("[hvp]\nmax_relative_error = 1.5", "hvp.max_relative_error", "between 0 and 1"),
        ("[hvp]\nrecalibrate_every = 0", "hvp.recalibrate_every", "at least 1"),
        ("[slq]\noperator = \"fisher\"", "fisher", "unknown variant"),
        ("[slq]\noperator = \"preconditioned\"\ndeflate = 2", "slq.deflate", "on the Hessian"),
        ("[directions]\nhessian = true", "hessian", "unknown field"),
        ("[sharpness]\nevery = 0", "sharpness.every", "more than 0"),
        ("[sharpness]\npasses = 9", "sharpness.passes", "3 to 8"),
        ("[sharpness]\ntolerance = 0.0", "sharpness.tolerance", "between 0 and 1"),
        ("[triggers]\nloss_spike = 0.0", "triggers.loss_spike", "positive"),
        ("[triggers]\nmargin = 0.9", "triggers.margin", "track.every"),
        ("[triggers]\nstep_ratio = 0.9", "triggers.step_ratio", "sharpness.every"),
        ("[triggers]\nwindow = 4", "triggers.window", "between 8"),
        ("[triggers]\nrecent = 0", "triggers.recent", "between 1"),
        ("[triggers]\nfile = \"\"", "triggers.file", "a file"),
        ("[budget]\nmax_overhead = -0.1", "budget.max_overhead", "positive"),
        ("[budget]\nmax_memory = \"lots\"", "lots", "number of bytes"),
        ("[resume]\nevery = 0", "resume.every", "at least 1"),
        ("[blocks]\nby = \"head\"", "head", "unknown variant"),
        ("[blocks]\nsize = 3", "size", "unknown field"),
        ("[blocks]\nvectors = 0", "blocks.vectors", "at least 1"),
        ("[blocks]\ndraws = 1", "blocks.draws", "at least 2"),
        ("[blocks]\nevery = 0", "blocks.every", "at least 1"),
        ("[blocks]\nmax_hvps = 2", "blocks.max_hvps", "smallest plan"),
        (
            "[blocks]\nby = \"layer\"\npatterns = [{ name = \"a\", patterns = [\"*\"] }]",
            "blocks.patterns",
            "only one of the two",
        ),
        ("[blocks]\npatterns = [{ name = \"a\", patterns = [] }]", "blocks.patterns", "no patterns"),
        ("[blocks]\npatterns = [{ name = \"\", patterns = [\"*\"] }]", "blocks.patterns", "needs a name"),
        (
            "[blocks]\npatterns = [{ name = \"a\", patterns = [\"x\"] }, { name = \"a\", patterns = [\"y\"] }]",
            "blocks.patterns",
            "two blocks",
        ),
        ("[log]\nqueue = 0", "log.queue", "at least 1"),
        ("[log]\ndir = \"\"", "log.dir", "directory"),
        // What TOML itself refuses: the message shows the line.
        ("[slq]\nstep = 3", "step", "unknown field"),
        ("[shedule]\nevery = 3", "shedule", "unknown field"),
        ("on_error = \"ignore\"", "ignore", "skip"),
        ("[schedule]\nevery = \"3 weeks\"", "3 weeks", "not a duration"),
        ("[schedule]\nevery = -5", "-5", "negative"),
        ("[schedule]\nat = [1.5]", "1.5", "number of steps"),
        ("[slq]\nsteps = \"many\"", "many", "invalid type"),
        ("[slq\nsteps = 3", "[slq", "expected"),
    ] {
        let error = ProbeConfig::from_toml_str(toml).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(reason), "{toml}\n{error}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("probe.toml");
    let missing = HessianProbe::from_toml(&path).unwrap_err();
    assert!(matches!(missing, Error::ReadConfig { .. }) && missing.to_string().contains("probe.toml"));
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(HessianProbe::from_toml(&path).unwrap_err().to_string().contains("probe.toml"));
    std::fs::write(&path, "[slq]\nsteps = 0").unwrap();
    let error = HessianProbe::from_toml(&path).unwrap_err().to_string();
    assert!(error.contains("probe.toml") && error.contains("slq.steps"), "{error}");
}

#[test]
fn a_configuration_reads_back_from_its_own_toml() {
    for toml in [
        "",
        "on_error = \"stop\"\n[schedule]\nevery = \"0.1dur\"\nat = [3, \"1e6tok\"]\nat_end = true\n\
         [slq]\nreorthogonalize = { window = 4 }\ndistribution = \"gaussian\"\ndtype = \"f64\"\n\
         [hvp]\ndifference = \"forward\"\nstep_size = { relative = 1e-6 }\n[log]\ndir = \"x\"\nqueue = 3",
        "[directions]\nupdate = true\n[track]\nevery = 3\n[sharpness]\nevery = \"0.1dur\"\npasses = 5",
        "[track]\nevery = 2\n[triggers]\nmargin = 0.9\nfile = \"now\"\nstop_margin = 2.0",
        "[slq]\noperator = \"both\"\nbasis = { dtype = \"bf16\" }",
        "[blocks]",
        "[blocks]\nby = \"kind\"\nmethod = \"stochastic\"\nmax_hvps = 40\nevery = 3",
        "[blocks]\nvectors = 2\n[[blocks.patterns]]\nname = \"a\"\npatterns = [\"*.q\", \"*.k\"]\n\
         [[blocks.patterns]]\nname = \"b\"\npatterns = [\"*\"]\n[budget]\nmax_overhead = 0.5",
    ] {
        let config = ProbeConfig::from_toml_str(toml).unwrap();
        assert_eq!(ProbeConfig::from_toml_str(&config.to_toml()).unwrap(), config);
    }
}

#[test]
fn blocks_without_a_word_on_what_they_are_are_layers() {
    let blocks = |toml: &str| ProbeConfig::from_toml_str(toml).unwrap().blocks;
    for (toml, by) in [
        ("[blocks]", By::Layer),
        ("[blocks]\nvectors = 2", By::Layer),
        ("[blocks]\npatterns = []", By::Layer),
        ("[blocks]\nby = \"tensor\"", By::Tensor),
    ] {
        let found = blocks(toml);
        assert!(found.by == by && found.is_on(), "{toml}: {found:?}");
    }
    // Patterns say it, too; and what is off stays off.
    let patterns = blocks("[blocks]\npatterns = [{ name = \"a\", patterns = [\"*\"] }]");
    assert!(patterns.by == By::None && patterns.is_on(), "{patterns:?}");
    for toml in ["", "[blocks]\nby = \"none\"\nvectors = 2"] {
        assert!(!blocks(toml).is_on(), "{toml}");
    }
    assert_eq!(blocks(""), BlocksConfig::default());
}

fn begin(toml: &str) -> (Result<(), Error>, ClosureHost) {
    let mut host = ClosureHost::new(models::mlp(1), Kind::Double);
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(toml).unwrap()).unwrap();
    let result = probe.on_train_begin(&mut host).map(drop);
    (result, host)
}

#[test]
fn what_depends_on_the_model_is_checked_before_the_first_step_and_computes_nothing() {
    let n = 12 * 6 + 12 + 5 * 12 + 5;
    let (result, host) = begin(&format!("[slq]\nsteps = {}{SILENT}", n + 1));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("slq.steps") && error.contains(&format!("{n} parameters")), "{error}");
    assert_eq!(host.calls, 0);
    begin(&format!("[slq]\nsteps = {n}{SILENT}")).0.unwrap();

    let pattern = "[blocks]\npatterns = [{ name = \"outer\", patterns = [\"output.*\", \"outer.*\"] }]";
    let (result, host) = begin(&format!("{pattern}{SILENT}"));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("blocks.patterns") && error.contains("`outer.*`"), "{error}");
    assert_eq!(host.calls, 0);

    let (result, _) = begin(&format!("[schedule]\nevery = \"0.1dur\"{SILENT}"));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("schedule.every") && error.contains("length of the training"), "{error}");
}

const ADAM: OptimizerKind = OptimizerKind::Adam { betas: (0.9, 0.999), eps: 1e-8 };

/// A host whose optimizer has taken so many steps, and lends second moments of so many of its four tensors.
fn with_optimizer(kind: OptimizerKind, steps: u64, lent: usize) -> ClosureHost {
    let mut host = ClosureHost::new(models::mlp(1), Kind::Double);
    let moments: Vec<Tensor> = host.parameters[..lent].iter().map(|p| p.detach().square()).collect();
    host.lend(kind, 1e-3, steps, moments);
    host
}

#[test]
fn a_preconditioned_spectrum_that_a_host_can_never_give_is_refused_with_the_reason() {
    let sgd = OptimizerKind::Sgd { momentum: 0.9, dampening: 0.0, nesterov: false };
    let none = || ClosureHost::new(models::mlp(1), Kind::Double);
    for operator in ["preconditioned", "both"] {
        for (mut host, reason) in [
            (none(), "lends no optimizer"),
            (with_optimizer(sgd, 5, 0), "sgd"),
            (with_optimizer(ADAM, 5, 0), "no second moments after 5 steps"),
            (with_optimizer(ADAM, 5, 3), "second moments of 3 shards, of 4"),
            (
                with_optimizer(OptimizerKind::AdamW { betas: (0.9, 1.5), eps: 1e-8 }, 5, 4),
                "settings are impossible",
            ),
        ] {
            let toml = format!("[slq]\noperator = \"{operator}\"{SILENT}");
            let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
            let error = probe.on_train_begin(&mut host).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(host.calls, 0);
        }
    }
}

/// An alarm that could never be raised would be taken for peace.
#[test]
fn a_limit_on_a_margin_that_nobody_would_find_is_refused_with_the_reason() {
    let sgd = OptimizerKind::Sgd { momentum: 0.9, dampening: 0.0, nesterov: false };
    let begins = |mut host: ClosureHost, key: &str, operator: &str| {
        let toml =
            format!("[slq]\noperator = \"{operator}\"\n[track]\nevery = 1\n[triggers]\n{key} = 1.5{SILENT}");
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        probe.on_train_begin(&mut host).map(drop).map_err(|error| error.to_string())
    };
    for key in ["margin", "checkpoint_margin", "stop_margin"] {
        let unknown = begins(ClosureHost::new(models::mlp(1), Kind::Double), key, "hessian").unwrap_err();
        assert!(unknown.contains(&format!("triggers.{key}")) && unknown.contains("lends none"), "{unknown}");
        let other = begins(with_optimizer(ADAM, 5, 4), key, "hessian").unwrap_err();
        assert!(other.contains(&format!("triggers.{key}")) && other.contains("\"both\""), "{other}");
        for (host, operator) in [
            (with_optimizer(sgd, 5, 0), "hessian"),
            (with_optimizer(ADAM, 5, 4), "both"),
            // Those of the first step are not there yet.
            (with_optimizer(ADAM, 0, 0), "preconditioned"),
        ] {
            begins(host, key, operator).unwrap();
        }
    }
}

/// Before the first step there is nothing to measure: what else was asked for is, and training is not stopped.
#[test]
fn what_has_no_second_moments_yet_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    for (operator, lent) in [("preconditioned", 4), ("preconditioned", 0), ("both", 4)] {
        let dir = directory.path().join(format!("{operator}-{lent}"));
        let toml = format!(
            "on_error = \"stop\"\n[schedule]\nevery = 1\n[slq]\nsteps = 4\noperator = \"{operator}\"\n[log]\ndir = {:?}",
            dir.to_str().unwrap()
        );
        let mut host = with_optimizer(ADAM, 0, lent);
        let before = host.flat();
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        probe.on_train_begin(&mut host).unwrap();
        assert_eq!(probe.on_step_end(0, &mut host).unwrap(), Control::Continue);
        let mut later = with_optimizer(ADAM, 1, 4);
        assert_eq!(host.flat(), before);
        if operator == "both" {
            let found = probe.latest().unwrap();
            assert!(found.preconditioned.is_none() && found.operator.is_hessian());
        } else {
            assert!(probe.latest().is_none());
            assert_eq!(host.calls, 0);
        }
        probe.on_step_end(1, &mut later).unwrap();
        assert!(probe.latest().unwrap().preconditioned.is_some());
        probe.on_train_end(&mut later).unwrap();
        let log = std::fs::read_to_string(dir.join("snapshots.jsonl")).unwrap();
        assert_eq!(log.contains("no second moments yet"), operator == "preconditioned", "{log}");
    }
}

#[test]
fn second_moments_that_are_all_0_or_not_finite_are_no_spectrum() {
    for (value, reason) in [(0.0, "every second moment is 0"), (f64::NAN, "second moment is not finite")] {
        let mut host = with_optimizer(ADAM, 3, 4);
        for moment in &mut host.optimizer.as_mut().unwrap().second_moments {
            let _ = moment.shallow_clone().fill_(value);
        }
        let toml = format!("[slq]\nsteps = 4\noperator = \"preconditioned\"{SILENT}");
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
        let before = host.flat();
        let error = probe.probe(3, &mut host).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(host.flat(), before);
    }
}

#[test]
fn an_unwritable_log_directory_is_an_error_before_the_first_step() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let (result, host) = begin(&format!("[log]\ndir = {:?}", file.join("logs").to_str().unwrap()));
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Log { .. }) && error.to_string().contains("file/logs"), "{error}");
    assert_eq!(host.calls, 0);
}

#[test]
fn shards_that_are_not_contiguous_or_not_floating_point_are_refused_by_name() {
    let mut host = ClosureHost::new(models::mlp(1), Kind::Double);
    host.parameters[2] = host.parameters[2].tr();
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(SILENT).unwrap()).unwrap();
    let error = probe.on_train_begin(&mut host).unwrap_err().to_string();
    assert!(error.contains("output.weight") && error.contains("contiguous"), "{error}");

    let mut host = ClosureHost::new(models::mlp(1), Kind::Double);
    host.parameters[1] = host.parameters[1].to_kind(Kind::Int64);
    let error = probe.on_train_begin(&mut host).unwrap_err().to_string();
    assert!(error.contains("hidden.bias") && error.contains("Int64"), "{error}");
}

#[test]
fn a_nan_gradient_skips_the_probe_and_restores_parameters_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let toml = format!("[schedule]\nevery = 1\n[log]\ndir = {:?}", directory.path().to_str().unwrap());
    let mut host = ClosureHost::new(models::mlp(1), Kind::Float);
    let before = host.flat();
    host.hook = Some(Box::new(|call, gradient| {
        if call > 8 {
            let _ = gradient.tensors[0].view([-1]).get(3).fill_(f64::NAN);
        }
        Ok(())
    }));
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
    probe.on_train_begin(&mut host).unwrap();
    probe.on_step_end(0, &mut host).unwrap();
    assert!(probe.latest().is_none() && host.calls > 8);
    assert_eq!(host.flat(), before);
    probe.on_train_end(&mut host).unwrap();
    let log = std::fs::read_to_string(directory.path().join("snapshots.jsonl")).unwrap();
    assert!(log.contains("\"skipped\"") && log.contains("not finite"), "{log}");
}

#[test]
fn state_survives_and_another_version_is_refused() {
    let mut host = ClosureHost::new(models::mlp(1), Kind::Double);
    let config = ProbeConfig::from_toml_str(&format!("[slq]\nsteps = 4{SILENT}")).unwrap();
    let mut first = HessianProbe::new(config.clone()).unwrap();
    let calibrating = first.probe(0, &mut host).unwrap().cost.calibration_gradients;
    assert!(calibrating > 0);
    let state = first.state_dict();
    let mut second = HessianProbe::new(config).unwrap();
    second.load_state_dict(&state).unwrap();
    assert_eq!(second.probe(1, &mut host).unwrap().cost.calibration_gradients, 0, "the noise is known");
    assert_eq!(first.probe(1, &mut host).unwrap().probes, second.latest().unwrap().probes);
    for bad in ["{}", "null", "[1]", "{\"version\": 99, \"last_probed\": null, \"calibration\": {}}"] {
        let error = second.load_state_dict(&serde_json::from_str(bad).unwrap()).unwrap_err();
        assert!(matches!(error, Error::State(_)), "{error}");
    }
}

#[test]
fn configurations_of_the_demos_and_studies_are_valid() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| {
        ProbeConfig::from_toml_str(&std::fs::read_to_string(root.join(path)).unwrap())
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let demo = read("examples/demo/probe.toml");
    assert!(demo.schedule.every.is_some() && demo.slq.probes > 1);
    let real = read("examples/smollm2/probe.toml");
    assert!(
        real.blocks.is_on() && real.schedule.at_end,
        "a spectrum and the table of blocks, and what became of it"
    );
    assert!(read("studies/src/blocks/probe.toml").blocks.is_on());
    read("studies/src/regimes/probe.toml");
}

/// What a newcomer runs first, but for the number of steps and products.
#[test]
fn the_demo_ends_with_the_table_that_the_readme_shows() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let test = std::env::current_exe().unwrap();
    let demo = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/demo");
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    let probe = directory.path().join("probe.toml");
    let blocks = "[blocks]\nby = \"kind\"\nvectors = 2\nspectrum_steps = 0";
    std::fs::write(&probe, format!("[schedule]\nevery = 2\n[slq]\nsteps = 2\nprobes = 2\n{blocks}")).unwrap();
    let mut command = std::process::Command::new(&demo);
    command.args(["--steps", "3", "--logdir"]).arg(&logs).arg("--probe").arg(&probe).env_remove("RUST_LOG");
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; build it: cargo build --example demo", demo.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout);
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let head = readme.split("```text\n").nth(1).and_then(|block| block.lines().next()).unwrap();
    let mut lines = printed.lines().skip_while(|line| *line != head).skip(1);
    for step in ["0", "2"] {
        let line =
            lines.next().unwrap_or_else(|| panic!("the README's head is\n{head}\nand it prints\n{printed}"));
        assert!(line.split_whitespace().next() == Some(step) && line.contains('±'), "{printed}");
    }
    let blocks = lines.skip_while(|line| !(line.contains("step") && line.contains("‖H−H_bd‖²/‖H‖²"))).skip(1);
    let blocks: Vec<&str> = blocks.take_while(|line| line.contains('±')).collect();
    assert_eq!(blocks.len(), 2, "{printed}");
    for (line, step) in blocks.iter().zip(["0", "2"]) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert!(cells[0] == step && cells.iter().filter(|cell| **cell == "±").count() == 3, "{line}");
    }
    assert!(printed.contains(&format!("tensorboard --logdir {}", logs.display())), "{printed}");
}
