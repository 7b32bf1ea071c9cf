//! Which cases are measured, and the processes that measure them.

use crate::callback::CallTimes;
use crate::case::{Case, Model, Task};
use crate::gradients::Gradients;
use crate::memory::Memory;
use crate::options::Options;
use crate::products::Products;
use crate::report::{Report, Row, median};
use crate::time::{SCHEMES, Times};
use crate::traffic::{Step, Traffic};
use crate::{Result, support};
use hessian_probe::config::Reorthogonalize;
use serde::de::DeserializeOwned;
use std::net::TcpListener;

/// m, the default.
const STEPS: usize = 20;
/// `(sequences, tokens)` of a batch: the one that targets are for, and one that shows how the share of
/// vector work grows where gradients are cheap.
const BATCH: (usize, usize) = (4, 1024);
const SMALL_BATCH: (usize, usize) = (4, 256);

/// Bytes of a shard from which its measured memory is judged: the pieces that a probe works on, and what
/// the ranks' connections take, are of a fixed size of one to three MB.
const LEAST_SHARD: u64 = 4_000_000;

pub fn run(options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let models: Vec<Model> = [Model::Small, Model::Large]
        .into_iter()
        .filter(|model| options.models.is_empty() || options.models.iter().any(|name| name == model.name()))
        .filter(|&model| !(options.quick && options.models.is_empty() && model == Model::Large))
        .collect();
    for &model in &models {
        calls(&mut report, &case(Task::Callback, model, (1, 64), 1, options.threads))?;
        for (ranks, threads) in [(1, options.threads), (2, 1)] {
            if ranks == 1 || !options.quick {
                traffic(&mut report, &case(Task::Traffic, model, (2, 64), ranks, threads))?;
                memory(&mut report, &case(Task::Memory { probe: false }, model, (2, 64), ranks, threads))?;
            }
        }
    }
    for &model in &models {
        let (task, batch) = match options.quick {
            true => (Task::Gradients { rounds: 5 }, SMALL_BATCH),
            false => (Task::Gradients { rounds: 9 }, BATCH),
        };
        for (ranks, threads) in [(1, options.threads), (2, 1)] {
            gradients(&mut report, &case(task, model, batch, ranks, threads))?;
        }
        let task = Task::Products { rounds: if options.quick { 3 } else { 7 } };
        products(&mut report, &case(task, model, batch, 1, options.threads))?;
    }
    for &model in &models {
        let task = Task::Time { rounds: options.rounds, schemes: options.schemes };
        if options.quick {
            times(&mut report, &case(task, model, SMALL_BATCH, 1, options.threads))?;
            continue;
        }
        times(&mut report, &case(task, model, BATCH, 1, options.threads))?;
        times(&mut report, &case(task, model, SMALL_BATCH, 1, options.threads))?;
        if model == Model::Small {
            times(&mut report, &case(task, model, BATCH, 2, 1))?;
        }
    }
    Ok(report)
}

fn case(
    task: Task,
    model: Model,
    (sequences, tokens): (usize, usize),
    world_size: usize,
    threads: usize,
) -> Case {
    Case { task, model, sequences, tokens, steps: STEPS, world_size, threads, port: 0 }
}

/// Where a figure comes from.
fn place(case: &Case) -> String {
    let ranks = if case.world_size == 1 { "1 rank".to_owned() } else { format!("{} ranks", case.world_size) };
    format!("{} {}x{} {ranks}", case.model.name(), case.sequences, case.tokens)
}

fn gradients(report: &mut Report, case: &Case) -> Result<()> {
    let times: Gradients = measure(case, &[])?;
    let place = place(case);
    let row =
        |name: &str, one: &[f64], other: &[f64]| Row::new(name, &place, Gradients::ratio(one, other), "");
    if !times.unsharded.is_empty() {
        let sharded = row("gradient: sharded / whole", &times.sharded, &times.unsharded);
        report.add(sharded.at_most(1.05));
    }
    if case.world_size > 1 {
        report.add(row("gradient: next block under way / not", &times.ahead, &times.sharded));
    }
    report.add(row("gradient: graphs kept / blocks run again", &times.kept, &times.sharded));
    report.add(Row::new("gradient", &place, 1e3 * median(&times.sharded), "ms"));
    report.keep("gradients", case, &times)
}

fn products(report: &mut Report, case: &Case) -> Result<()> {
    let times: Products = measure(case, &[])?;
    for (name, products, target) in
        [("product: forward", &times.forward, 1.05), ("product: central", &times.central, 2.05)]
    {
        let row = Row::new(name, place(case), times.in_gradients(products), "gradients");
        report.add(judged(row, case, target));
    }
    report.keep("products", case, &times)
}

/// Targets are for one batch.
fn judged(row: Row, case: &Case, target: f64) -> Row {
    if (case.sequences, case.tokens) == BATCH { row.at_most(target) } else { row }
}

fn calls(report: &mut Report, case: &Case) -> Result<()> {
    let times: CallTimes = measure(case, &[])?;
    for (name, value) in [
        ("on_step_end, no probe due: median", times.median),
        ("on_step_end, no probe due: 99th percentile", times.percentile_99),
        ("on_step_end, cold caches: median", times.cold_median),
        ("on_step_end, cold caches: 99th percentile", times.cold_percentile_99),
    ] {
        report.add(Row::new(name, place(case), value, "µs").at_most(20.0));
    }
    report.keep("callback", case, &times)
}

fn traffic(report: &mut Report, case: &Case) -> Result<()> {
    let traffic: Traffic = measure(case, &[])?;
    let worst = |f: &dyn Fn(&Step) -> f64| traffic.full.iter().map(f).fold(0.0, f64::max);
    let values = worst(&|step| step.values as f64);
    let reductions = worst(&|step| step.all_reduces as f64);
    let mean = traffic.full.iter().map(|step| step.all_reduces as f64).sum::<f64>() / STEPS as f64;
    let place = place(case);
    report.add(Row::new("f64 of the worst step - basis", &place, values - STEPS as f64, "").at_most(8.0));
    report.add(Row::new("all_reduces of the worst step", &place, reductions, "").at_most(3.0));
    report.add(Row::new("all_reduces of a step: mean", &place, mean, ""));
    for (name, steps) in [("full", &traffic.full), ("none", &traffic.none)] {
        let (forward, lanczos) = traffic.per_entry(steps, 1);
        let (central, _) = traffic.per_entry(steps, 2);
        let unit = "ns/entry/step";
        report.add(Row::new(&format!("vectors ({name}): forward product"), &place, forward, unit));
        report.add(Row::new(&format!("vectors ({name}): central product"), &place, central, unit));
        report.add(Row::new(&format!("vectors ({name}): Lanczos"), &place, lanczos, unit));
    }
    for (name, gradients) in [("forward", 1), ("central", 2)] {
        let over = traffic.over_a_copy(gradients);
        let row = Row::new(&format!("vectors (none): {name} step / a copy"), &place, over, "");
        // Shards of the smaller model stay in caches.
        report.add(if case.model == Model::Large { row.at_most(1.5) } else { row });
    }
    report.keep("traffic", case, &traffic)
}

fn memory(report: &mut Report, case: &Case) -> Result<()> {
    let without: Memory = measure(case, &support::MALLOC)?;
    let with: Memory =
        measure(&Case { task: Task::Memory { probe: true }, ..case.clone() }, &support::MALLOC)?;
    let place = place(case);
    let shards = |bytes: f64| bytes / with.shard as f64;
    if let (Some(without), Some(with_probe)) = (without.peak, with.peak) {
        let measured = shards(with_probe as f64 - without as f64 - with.basis as f64);
        let row = Row::new("memory beyond the basis: measured", &place, measured, "shards");
        report.add(if with.shard >= LEAST_SHARD { row.at_most(4.0) } else { row });
    }
    if let Some(once) = with.once {
        report.add(Row::new("memory of any first probe (code, thread)", &place, once as f64 / 1e6, "MB"));
    }
    let counted = shards(with.vectors as f64);
    report.add(Row::new("memory beyond the basis: counted", &place, counted, "shards").at_most(4.0));
    report.add(Row::new("basis", &place, shards(with.basis as f64), "shards"));
    report.keep("memory", case, &[without, with])
}

fn times(report: &mut Report, case: &Case) -> Result<()> {
    let times: Times = measure(case, &[])?;
    for (index, (scheme, _, reorthogonalize)) in SCHEMES.iter().enumerate() {
        if !times.probes.iter().any(|probe| probe.scheme == index) {
            continue;
        }
        let of = |f: &dyn Fn(&crate::time::ProbeTime) -> f64| {
            let probes = times.probes.iter().filter(|probe| probe.scheme == index);
            median(&probes.map(f).collect::<Vec<_>>())
        };
        let place = format!("{} {scheme}", place(case));
        let most = if *reorthogonalize == Reorthogonalize::None { 1.04 } else { 1.10 };
        let target = |row: Row| judged(row, case, most);
        report.add(target(Row::new("probe / gradients", &place, of(&|probe| probe.relative()), "")));
        report.add(target(Row::new(
            "probe / gradients, of medians",
            &place,
            of(&|probe| probe.relative_of_medians()),
            "",
        )));
        report.add(Row::new("  outside gradients", &place, 100.0 * of(&|probe| probe.overhead()), "%"));
        report.add(Row::new(
            "  outside gradients",
            &place,
            of(&|probe| (probe.seconds - probe.gradient_seconds) * 1e9 / (STEPS as f64 * times.shard as f64)),
            "ns/entry/step",
        ));
        report.add(Row::new("  gradients", &place, of(&|probe| probe.gradients as f64), ""));
        report.add(Row::new("  one of training", &place, 1e3 * of(&|probe| probe.backward_median), "ms"));
        report.add(Row::new("  its spread", &place, 100.0 * of(&|probe| probe.backward_spread), "%"));
    }
    report.keep("time", case, &times)
}

/// Runs a case in a process of its own, or one for each rank, and reads rank 0's result.
fn measure<T: DeserializeOwned>(case: &Case, environment: &[(&str, &str)]) -> Result<T> {
    eprintln!("measuring {} {:?}", place(case), case.task);
    // Free now, and used by the ranks' second group in a moment.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let case = Case { port, ..case.clone() };
    support::measure("--worker", &case, (case.world_size, case.threads), environment)
}
