//! What block-diagonal fidelity costs, what it leaves alone, and where there is little to measure.

use crate::closure_host::ClosureHost;
use crate::models::{Model, mlp, quadratic, transformer};
use hessian_probe::blocks::{BlockDiagonal, block_diagonal};
use hessian_probe::{Callback, HessianProbe, ProbeConfig, Snapshot};
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor};

const SILENT: &str = "\n[log]\ntensorboard = false\njsonl = false";

fn config(toml: &str) -> ProbeConfig {
    ProbeConfig::from_toml_str(&format!("{toml}{SILENT}")).unwrap()
}

/// Snapshots one after the other of the same host, and the gradients of each.
fn snapshots(model: Model, toml: &str, count: u64) -> Vec<(Snapshot, u64)> {
    let mut host = ClosureHost::new(model, Kind::Double);
    let mut probe = HessianProbe::new(config(toml)).unwrap();
    let take = |step| {
        let before = host.calls;
        let snapshot = probe.probe(step, &mut host).unwrap().clone();
        (snapshot, host.calls - before)
    };
    (0..count).map(take).collect()
}

/// Counted by the host: at most two gradients a product, and never more products than the limit.
#[test]
fn max_hvps_is_kept_by_the_count_of_the_host() {
    let slq = "[slq]\nsteps = 3\n[hvp]\ndifference = \"central\"\nmax_relative_error = 1e-9\n";
    let plain = snapshots(transformer(2), slq, 1)[0].1;
    for (method, by) in [("exact", "layer"), ("stochastic", "tensor"), ("auto", "kind")] {
        let blocks =
            format!("{slq}[blocks]\nby = \"{by}\"\nmethod = \"{method}\"\nvectors = 2\nspectrum_steps = 3\n");
        let (whole, _) = snapshots(transformer(2), &blocks, 1).remove(0);
        let whole = whole.block_diagonal.unwrap();
        assert!(whole.left_out.is_empty());
        assert!(whole.products.redone > 0, "products are taken again where there is room for it");
        for limit in [3, 20, whole.hvps + 2] {
            let (snapshot, gradients) =
                snapshots(transformer(2), &format!("{blocks}max_hvps = {limit}"), 1).remove(0);
            let found = snapshot.block_diagonal.unwrap();
            let products = found.hvps + found.products.redone;
            assert!(products <= limit, "{method}: {products} of {limit}");
            assert_eq!(gradients - plain, 2 * products, "{method}, {limit}: every gradient is told");
            assert_eq!(snapshot.cost.gradients, gradients);
            assert_eq!(found.left_out.is_empty(), limit >= whole.hvps, "{limit}: {:?}", found.left_out);
            assert_eq!(found.products.central, found.hvps);
        }
    }
}

/// What this thread has logged.
struct Lines;

thread_local! {
    static LINES: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

#[test]
fn what_blocks_will_cost_is_told_before_it_is_spent() {
    log::set_logger(&Lines).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let slq = "[slq]\nsteps = 3\n[hvp]\ndifference = \"central\"\n";
    let plain = snapshots(transformer(2), slq, 1)[0].1;
    let told = || LINES.with_borrow(|lines| lines.iter().find(|line| line.starts_with("blocks: ")).cloned());
    assert_eq!(told(), None, "there are none");
    let mut host = ClosureHost::new(transformer(2), Kind::Double);
    let before = Arc::new(Mutex::new(Vec::new()));
    let gradients = Arc::clone(&before);
    host.hook = Some(Box::new(move |_, _| {
        gradients.lock().unwrap().push(told().is_some());
        Ok(())
    }));
    let toml = format!("{slq}[blocks]\nby = \"layer\"\nvectors = 2\nspectrum_steps = 3\n");
    let mut probe = HessianProbe::new(config(&toml)).unwrap();
    let found = probe.probe(0, &mut host).unwrap().block_diagonal.clone().unwrap();
    let line = told().unwrap();
    assert!(line.contains(&format!("{} Hessian-vector products", found.hvps)), "{line}");
    let told = before.lock().unwrap();
    let known = told.iter().position(|told| *told).unwrap();
    assert_eq!(known as u64, plain, "before the first gradient that is spent on blocks");
}

#[test]
fn progress_goes_on_through_the_blocks_to_the_products_of_the_plan() {
    let mut host = ClosureHost::new(transformer(2), Kind::Double);
    let toml = "[slq]\nsteps = 3\nprobes = 2\n[blocks]\nby = \"kind\"\nvectors = 2\nspectrum_steps = 2\n";
    let mut probe = HessianProbe::new(config(toml)).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    probe.on_progress(move |progress| listener.lock().unwrap().push(*progress));
    let snapshot = probe.probe(0, &mut host).unwrap().clone();
    let told = told.lock().unwrap();
    let (lanczos, blocks) =
        told.split_at(told.iter().position(|progress| progress.blocks.is_some()).unwrap());
    assert!(lanczos.last().is_some_and(|last| last.complete && last.probe == 1));
    let found = snapshot.block_diagonal.unwrap();
    let counts: Vec<u64> = blocks.iter().map(|progress| progress.blocks.unwrap().hvps).collect();
    assert_eq!(counts, (1..=found.hvps).collect::<Vec<_>>(), "one by one");
    for progress in blocks {
        assert_eq!(progress.blocks.unwrap().planned, found.hvps);
        assert_eq!((progress.probe, progress.step, progress.complete), (1, 3, true), "nothing goes back");
    }
    assert!(blocks.windows(2).all(|pair| pair[0].gradients < pair[1].gradients));
    assert_eq!(blocks.last().unwrap().gradients, snapshot.cost.gradients);
}

/// The runs of the probe itself, and what they have learned of the gradient, are those of a probe without blocks.
#[test]
fn blocks_leave_the_spectrum_of_this_and_of_the_next_probe_alone() {
    let slq = "[slq]\nsteps = 9\nprobes = 2\n[hvp]\nrecalibrate_every = 2\n";
    let plain = snapshots(transformer(3), slq, 3);
    let blocks =
        snapshots(transformer(3), &format!("{slq}[blocks]\nby = \"layer\"\nvectors = 2\nevery = 2"), 3);
    for ((plain, without), (blocks, with)) in plain.iter().zip(&blocks) {
        assert_eq!(plain.probes, blocks.probes);
        assert_eq!(plain.hvp, blocks.hvp);
        // Every second probe, from the first on; the others cost nothing more.
        assert_eq!(blocks.block_diagonal.is_some(), blocks.step % 2 == 0);
        assert_eq!(with > without, blocks.step % 2 == 0);
    }
    assert!(plain.iter().all(|(snapshot, _)| snapshot.block_diagonal.is_none()));
    let all_reduces = |snapshots: &[(Snapshot, u64)]| snapshots[1].0.cost.all_reduces;
    assert_eq!(
        all_reduces(&plain),
        all_reduces(&blocks),
        "nothing is communicated for blocks that are not due"
    );
}

#[test]
fn a_gradient_that_fails_while_blocks_are_measured_restores_parameters_bit_for_bit() {
    let toml =
        "on_error = \"stop\"\n[slq]\nsteps = 3\n[blocks]\nby = \"layer\"\nvectors = 1\nspectrum_steps = 2";
    let total = snapshots(mlp(1), toml, 1)[0].1;
    let without = snapshots(mlp(1), "[slq]\nsteps = 3", 1)[0].1;
    let mut failed = 0;
    for at in without + 1..=total {
        let mut host = ClosureHost::new(mlp(1), Kind::Float);
        let before = host.flat();
        host.hook =
            Some(Box::new(move |call, _| if call == at { Err("out of memory".into()) } else { Ok(()) }));
        let mut probe = HessianProbe::new(config(toml)).unwrap();
        // In f32 a few gradients more or less are taken.
        if let Err(error) = probe.probe(0, &mut host) {
            failed += 1;
            assert!(error.to_string().contains("out of memory"), "{error}");
        }
        assert_eq!(host.flat(), before, "at gradient {at}");
        // The next probe comes about.
        host.hook = None;
        probe.probe(1, &mut host).unwrap();
    }
    assert!(failed > 10, "{failed}");
}

#[test]
fn a_probe_cut_off_among_its_blocks_goes_on_without_its_lanczos_steps_being_taken_again() {
    let directory = tempfile::tempdir().unwrap();
    let toml = format!(
        "[slq]\nsteps = 12\nprobes = 2\n[blocks]\nby = \"layer\"\nvectors = 1\nspectrum_steps = 0\n\
         [resume]\nevery = 1\ndir = {:?}",
        directory.path().to_str().unwrap()
    );
    let (whole, total) = snapshots(mlp(4), &toml, 1).remove(0);
    let mut host = ClosureHost::new(mlp(4), Kind::Double);
    host.hook = Some(Box::new(move |call, _| if call == total { Err("the end".into()) } else { Ok(()) }));
    HessianProbe::new(config(&toml)).unwrap().probe(0, &mut host).unwrap_err();
    host.hook = None;
    let mut resumed = HessianProbe::new(config(&toml)).unwrap();
    let found = resumed.probe(0, &mut host).unwrap();
    assert_eq!(found.probes, whole.probes);
    assert_eq!(found.block_diagonal, whole.block_diagonal);
    let again = host.calls - total;
    assert!(again < total / 2, "{again} of {total} gradients");
}

#[test]
fn a_budget_of_memory_counts_the_vectors_of_blocks() {
    // Without a basis to speak of, the three vectors of the stochastic method are what takes the memory.
    let slq = "[schedule]\nevery = 1\n[slq]\nsteps = 3\nreorthogonalize = \"none\"\n";
    let n = 149 * 8;
    for (blocks, vectors) in [
        ("", 2),
        ("[blocks]\nby = \"tensor\"\nspectrum_steps = 0\n", 2),
        ("[blocks]\nby = \"tensor\"\nmethod = \"stochastic\"\nspectrum_steps = 0\n", 3),
    ] {
        // θ₀, g₀ and a vector of work beside them.
        let needed = (3 + vectors) * n;
        for (limit, comes_about) in [(needed, true), (needed - 1, false)] {
            let mut host = ClosureHost::new(mlp(1), Kind::Double);
            let toml = format!("{slq}{blocks}[budget]\nmax_memory = {limit}");
            let mut probe = HessianProbe::new(config(&toml)).unwrap();
            probe.on_step_end(0, &mut host).unwrap();
            assert_eq!(probe.latest().is_some(), comes_about, "{blocks}: {limit}");
            if let Some(snapshot) = probe.latest() {
                assert_eq!(snapshot.cost.vector_bytes + snapshot.cost.basis_bytes, needed);
            }
        }
    }
}

fn found(model: Model, toml: &str) -> BlockDiagonal {
    block_diagonal(&mut ClosureHost::new(model, Kind::Double), &config(toml)).unwrap()
}

#[test]
fn one_block_is_all_of_the_hessian() {
    let toml = "[blocks]\nvectors = 3\nspectrum_steps = 0\npatterns = [{ name = \"all\", patterns = [\"*\"] }]\n\
                [hvp]\ndifference = \"central\"";
    for method in ["exact", "stochastic"] {
        let found = found(mlp(2), &toml.replace("vectors", &format!("method = \"{method}\"\nvectors")));
        assert!((found.cosine.unwrap().mean - 1.0).abs() < 1e-6, "{method}: {:?}", found.cosine);
        assert!(found.off_diagonal_share.unwrap().mean.abs() < 1e-6, "{method}");
        assert!((found.blocks[0].share.unwrap().mean - 1.0).abs() < 1e-6, "{method}");
        assert!((found.blocks[0].trace_share.unwrap().mean - 1.0).abs() < 1e-12, "{method}");
    }
}

#[test]
fn no_curvature_is_no_number_and_no_error() {
    let zero = Tensor::zeros([6, 6], (Kind::Double, Device::Cpu));
    let theta = Tensor::ones([6], (Kind::Double, Device::Cpu));
    for method in ["exact", "stochastic"] {
        let toml = format!("[blocks]\nby = \"tensor\"\nmethod = \"{method}\"");
        let found = found(quadratic(&zero, &theta), &toml);
        assert!(found.relative_error.is_none() && found.cosine.is_none() && found.gradient.is_none());
        assert_eq!((found.blocks[0].trace.mean, found.blocks[0].share), (0.0, None));
        assert_eq!(found.blocks[0].lambda_max.unwrap().value, 0.0);
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<BlockDiagonal>(&text).unwrap(), found);
    }
}

#[test]
fn without_blocks_there_is_nothing_to_measure() {
    let mut host = ClosureHost::new(mlp(1), Kind::Double);
    let error = block_diagonal(&mut host, &config("")).unwrap_err().to_string();
    assert!(error.contains("blocks.by") && error.contains("\"layer\""), "{error}");
    assert_eq!(host.calls, 0);
}
