//! What is seen on stderr while a probe runs: a progress bar on a terminal, and the log.

use env_logger::{Builder, Env, Target};
use hessian_probe::ProbeProgress;
use hessian_probe_c10d::RankLogger;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, Write};

/// One rank's view. Only rank 0 has a bar; the others log warnings where logs are asked for.
#[derive(Debug)]
pub struct Display {
    bar: ProgressBar,
}

impl Display {
    /// `verbose` is how often the flag was given.
    pub fn new(rank: usize, verbose: u8) -> Self {
        let bar = if rank == 0 { ProgressBar::no_length() } else { ProgressBar::hidden() };
        let default = match (rank, verbose) {
            (0, 0) => "warn",
            (0, 1) => "info",
            (0, _) => "debug",
            (_, 0) => "off",
            _ => "warn",
        };
        let logger = Builder::from_env(Env::default().default_filter_or(default))
            .target(Target::Pipe(Box::new(AboveBar(bar.clone()))))
            .format(|line, record| {
                writeln!(line, "[{}] {}", record.level().as_str().to_lowercase(), record.args())
            })
            .build();
        let (level, display) = (logger.filter(), Self { bar });
        if let Err(error) = RankLogger::from_env(logger).install(level) {
            display.note(&format!("nothing is logged: {error}"));
        }
        display
    }

    /// What the user should know, once.
    pub fn note(&self, note: &str) {
        self.bar.suspend(|| eprintln!("note: {note}"));
    }

    /// A function that moves the bar, for a probe of so many products: its Lanczos steps, then those for blocks.
    pub fn bar(&self, products: u64) -> impl FnMut(&ProbeProgress) + Send + 'static {
        let bar = self.bar.clone();
        self.begin(products);
        bar.set_message("measuring the gradient's noise");
        move |progress| {
            bar.set_message(message(progress));
            bar.set_position(done(progress));
        }
    }

    /// Shows how many gradients of about `total` are computed.
    pub fn counter(&self, total: u64) -> Counter {
        self.begin(total);
        Counter(self.bar.clone())
    }

    fn begin(&self, length: u64) {
        self.bar.set_length(length);
        let style = ProgressStyle::with_template("{bar:30} {msg}  {elapsed} so far, {eta} left");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn message(progress: &ProbeProgress) -> String {
    let ProbeProgress { probe, probes, step, steps, .. } = progress;
    match progress.blocks {
        Some(blocks) => format!("blocks, product {}/{}", blocks.hvps, blocks.planned),
        None => format!("probe {}/{probes}, step {step}/{steps}", probe + 1),
    }
}

/// Products of a bar's length. A run that ended early has done all that it can.
fn done(progress: &ProbeProgress) -> u64 {
    let of_run = if progress.complete { progress.steps } else { progress.step };
    let blocks = progress.blocks.map_or(0, |blocks| blocks.hvps);
    (progress.probe * progress.steps + of_run) as u64 + blocks
}

/// The bar of a [`Display`] as a counter.
#[derive(Clone, Debug)]
pub struct Counter(ProgressBar);

impl Counter {
    /// What is done from now on.
    pub fn begin(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.tick();
    }

    /// How much is done.
    pub fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

/// Writes log lines above the bar instead of through it.
struct AboveBar(ProgressBar);

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
