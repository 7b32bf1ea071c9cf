//! What a probe logs: one line at info, with the rank where there are several; nothing is printed.

mod common;

use common::processes::{TIMEOUT, expect_success, launcher};
use common::{Perceptron, alone};
use hessian_probe::{Callback, HessianProbe, ProbeConfig};
use hessian_probe_c10d::{ProcessGroup, RankLogger, is_launched};
use hessian_probe_var_store::VarStoreHost;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::Kind;

const DIRECTORY: &str = "HESSIAN_PROBE_TEST_DIRECTORY";
const PROBES: usize = 3;

/// A subscriber that writes to a file, so that what is printed is somebody else's.
struct ToFile(PathBuf);

impl Log for ToFile {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.0).unwrap();
        writeln!(file, "{}|{}|{}", record.level(), record.target(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

struct Line {
    level: Level,
    target: String,
    message: String,
}

fn lines(directory: &Path, ranks: usize, rank: usize) -> Vec<Line> {
    let text = std::fs::read_to_string(directory.join(format!("log-{ranks}-{rank}"))).unwrap_or_default();
    let line = |line: &str| {
        let mut parts = line.splitn(3, '|').map(str::to_owned);
        let level = parts.next().unwrap().parse().unwrap();
        Line { level, target: parts.next().unwrap(), message: parts.next().unwrap() }
    };
    text.lines().map(line).collect()
}

/// One rank: three probes with blocks, tracking between them, and a probe that is skipped.
fn train(group: &ProcessGroup, directory: &Path) {
    let (rank, ranks) = (group.rank(), group.world_size());
    let log = ToFile(directory.join(format!("log-{ranks}-{rank}")));
    RankLogger::from_env(log).install(LevelFilter::Trace).unwrap();
    let model = Perceptron::new(Kind::Double);
    let broken = std::cell::Cell::new(false);
    let mut host =
        VarStoreHost::new(
            &model.vs,
            || {
                if broken.get() { Err("the batch is gone") } else { Ok(model.loss()) }
            },
        )
        .unwrap()
        .over(group);
    let toml = format!(
        "[schedule]\nevery = 2\n[track]\nevery = 1\n[slq]\nsteps = 6\nprobes = 2\n[blocks]\nby = \"layer\"\n\
         [log]\ndir = {:?}",
        directory.join(format!("runs-{ranks}"))
    );
    let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&toml).unwrap()).unwrap();
    probe.on_train_begin(&mut host).unwrap();
    for step in 0..2 * PROBES as u64 + 1 {
        broken.set(step == 2 * PROBES as u64);
        probe.on_step_end(step, &mut host).unwrap();
    }
    probe.on_train_end(&mut host).unwrap();
}

/// What the test harness prints itself. With what a test prints first its own line would go on.
fn of_harness(line: &str) -> bool {
    let line = line.trim();
    let own = line.starts_with("test ") && (line.ends_with(" ...") || line.ends_with(" ... ok"));
    line.is_empty()
        || line == "ok"
        || own
        || line.starts_with("running 1 test")
        || line.starts_with("test result: ")
}

#[test]
fn a_probe_logs_one_line_at_info_that_says_its_rank_and_nothing_is_printed() {
    let body = |group: &ProcessGroup| {
        let _turn = alone();
        train(group, Path::new(&std::env::var_os(DIRECTORY).unwrap()));
    };
    if is_launched() {
        return body(&ProcessGroup::from_env(TIMEOUT).unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    for ranks in [1, 2] {
        let outcome = launcher(ranks, &body).env(DIRECTORY, directory.path()).run().unwrap();
        expect_success(&outcome);
        for rank in 0..ranks {
            let output = outcome.output(rank);
            let printed: Vec<_> = output.lines().filter(|line| !of_harness(line)).collect();
            assert!(printed.is_empty(), "rank {rank} of {ranks} printed {printed:?}");

            let lines = lines(directory.path(), ranks, rank);
            let ours = |line: &&Line| line.target.starts_with("hessian_probe");
            let at = |level| lines.iter().filter(ours).filter(move |line| line.level == level);
            let infos: Vec<_> = at(Level::Info).map(|line| line.message.as_str()).collect();
            assert_eq!(infos.len(), if rank == 0 { PROBES } else { 0 }, "rank {rank} of {ranks}: {infos:?}");
            for (index, info) in infos.iter().enumerate() {
                assert!(info.contains(&format!("step {}: loss ", 2 * index)), "{info}");
            }
            let skipped = at(Level::Warn).filter(|line| line.message.contains("skipped: probe at step 6"));
            assert_eq!(skipped.count(), 1, "rank {rank} of {ranks}");
            // Two runs of each probe, blocks and tracked eigenvalues.
            for (what, count) in [("probe vector", 2 * PROBES), ("blocks: ", PROBES), ("tracked", PROBES)] {
                let found = at(Level::Debug).filter(|line| line.message.contains(what)).count();
                assert_eq!(found, count, "rank {rank} of {ranks}: {what}");
            }
            let mut targets: Vec<_> = lines.iter().filter(ours).map(|line| line.target.as_str()).collect();
            targets.sort_unstable();
            targets.dedup();
            for target in ["hessian_probe::blocks::measure", "hessian_probe::probe", "hessian_probe::slq"] {
                assert!(targets.contains(&target), "{targets:?}");
            }
            let label = format!("[rank {rank}] ");
            for Line { message, .. } in &lines {
                assert_eq!(message.starts_with(&label), ranks > 1, "{message}");
            }
        }
    }
}
