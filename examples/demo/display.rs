//! What the demo shows: a progress bar, and a table at the end.

use hessian_probe::log::{JSONL_FILE, Record, drop_orphans, read_jsonl};
use hessian_probe::spectrum::Estimate;
use hessian_probe::{Host, ProbeConfig, Snapshot};
use hessian_probe_c10d::RankLogger;
use hessian_probe_fsdp::{StepReport, Trainer};
use indicatif::{ProgressBar, ProgressStyle};
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Where there is no terminal for a bar, so many lines in its place.
const LINES: u64 = 12;

/// Rank 0's view of the run; other ranks are silent but for warnings.
pub struct Display {
    bar: Option<ProgressBar>,
    steps: u64,
}

impl Display {
    pub fn new(rank: usize, steps: u64) -> Self {
        let bar = (rank == 0).then(|| ProgressBar::new(steps));
        if let Some(bar) = &bar {
            let style = ProgressStyle::with_template("{bar:30} step {pos}/{len}  {msg}  {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        let default = if rank == 0 { "warn,hessian_probe=info" } else { "warn" };
        let mut logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default));
        logger.target(env_logger::Target::Pipe(Box::new(AboveBar(bar.clone()))));
        logger.format(|line, record| writeln!(line, "[{}] {}", record.level(), record.args()));
        let logger = logger.build();
        let level = logger.filter();
        if let Err(error) = RankLogger::from_env(logger).install(level) {
            eprintln!("nothing is logged: {error}");
        }
        Self { bar, steps }
    }

    pub fn model(&self, trainer: &Trainer) {
        if self.bar.is_some() {
            println!(
                "{} parameters over {} ranks; the probe's loss is the mean over {} targets",
                trainer.parameter_count(),
                Host::group(trainer).world_size(),
                trainer.probe_tokens().unwrap_or(0),
            );
        }
    }

    pub fn step(&self, report: &StepReport) {
        let Some(bar) = &self.bar else { return };
        bar.set_message(format!("loss {:.3}", report.loss));
        bar.set_position(report.step + 1);
        if !std::io::stderr().is_terminal() && report.step.is_multiple_of(self.steps.div_ceil(LINES)) {
            eprintln!("step {:>4}/{}  loss {:.3}", report.step, self.steps, report.loss);
        }
    }

    /// The snapshots as the log has them, and where to look at them.
    pub fn end(&self, config: &ProbeConfig, elapsed: Duration) -> Result<(), Box<dyn Error>> {
        let Some(bar) = &self.bar else { return Ok(()) };
        bar.finish_and_clear();
        let directory = config.log.dir.as_path();
        let records = read_jsonl(directory.join(JSONL_FILE))?.collect::<Result<Vec<_>, _>>()?;
        let snapshots: Vec<Snapshot> = drop_orphans(records)
            .into_iter()
            .filter_map(|record| if let Record::Snapshot(snapshot) = record { Some(*snapshot) } else { None })
            .collect();
        table(&snapshots);
        block_table(&snapshots);
        let probing: f64 = snapshots.iter().map(|snapshot| snapshot.cost.seconds).sum();
        println!(
            "\n{} steps in {:.0} s, of which {probing:.0} s in {} probes.",
            self.steps,
            elapsed.as_secs_f64(),
            snapshots.len()
        );
        println!("Everything is in {}. To look at it:\n", directory.display());
        println!("    .venv/bin/tensorboard --logdir {}\n", directory.display());
        Ok(())
    }
}

fn table(snapshots: &[Snapshot]) {
    println!(
        "\n{:>5}  {:>6}  {:>19}  {:>9}  {:>17}  {:>8}  {:>7}",
        "step", "loss", "λ_max ± residual", "λ_min", "trace ± error", "negative", "seconds"
    );
    for snapshot in snapshots {
        let (max, trace) = (snapshot.lambda_max, snapshot.trace);
        let error = trace.standard_error.map_or_else(|| "?".to_owned(), |error| format!("{error:.0}"));
        println!(
            "{:>5}  {:>6.3}  {:>19}  {:>9.3}  {:>17}  {:>8}  {:>7.1}",
            snapshot.step,
            snapshot.loss,
            format!("{:.3} ± {:.3}", max.value, max.residual),
            snapshot.lambda_min.value,
            format!("{:.0} ± {error}", trace.mean),
            format!("≥ {:.2}%", 100.0 * snapshot.negative_share_resolved.mean),
            snapshot.cost.seconds,
        );
    }
}

/// How far the Hessian is from its diagonal blocks, where that was measured.
fn block_table(snapshots: &[Snapshot]) {
    let measured: Vec<_> = snapshots
        .iter()
        .filter_map(|snapshot| Some((snapshot.step, snapshot.block_diagonal.as_ref()?)))
        .collect();
    if measured.is_empty() {
        return;
    }
    println!(
        "\n{:>5}  {:>16}  {:>16}  {:>22}  {:>18}",
        "step", "‖Hv−H_bd v‖/‖Hv‖", "cosine", "‖H−H_bd‖²/‖H‖²", "along the gradient"
    );
    for (step, found) in measured {
        let along = found.gradient.and_then(|gradient| gradient.relative_error);
        println!(
            "{step:>5}  {:>16}  {:>16}  {:>22}  {:>18}",
            shown(found.relative_error),
            shown(found.cosine),
            shown(found.off_diagonal_share),
            shown(along),
        );
    }
}

fn shown(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "?".into(),
        Some(Estimate { mean, standard_error: None }) => format!("{mean:.3}"),
        Some(Estimate { mean, standard_error: Some(error) }) => format!("{mean:.3} ± {error:.3}"),
    }
}

/// Writes log lines above the bar instead of through it.
struct AboveBar(Option<ProgressBar>);

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let write = || std::io::stderr().write_all(bytes);
        self.0.as_ref().map_or_else(write, |bar| bar.suspend(write)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
