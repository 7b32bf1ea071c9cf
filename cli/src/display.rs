//! What is seen on stderr while a probe runs: a progress bar on a terminal, and the log.

use env_logger::{Builder, Env, Target};
use hessian_probe::ProbeProgress;
use hessian_probe_c10d::RankLogger;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, Write};

/// What a bar looks like.
const TEMPLATE: &str = "{bar:30} {msg}  {elapsed} so far, {eta} left";

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
        let style = ProgressStyle::with_template(TEMPLATE);
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

#[cfg(test)]
mod tests {
    use super::*;
    use hessian_probe::{
        Gradient, HessianProbe, Host, HostError, ProbeConfig, ProcessGroup, Shard, SingleProcess,
    };
    use std::sync::{Arc, Mutex};
    use tch::Tensor;

    /// L = ½ Σ (i+1) x_i², in two tensors.
    struct Valley([Tensor; 2]);

    impl Host for Valley {
        fn shards(&self) -> Vec<Shard> {
            Shard::whole(
                ["a", "b"].iter().zip(&self.0).map(|(name, x)| (name.to_string(), x.shallow_clone())),
                false,
            )
        }

        fn gradient(&mut self) -> Result<Gradient, HostError> {
            let factors = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0]);
            let tensors: Vec<Tensor> = self.0.iter().map(|x| x * &factors).collect();
            let loss =
                tensors.iter().zip(&self.0).map(|(g, x)| g.dot(x).double_value(&[])).sum::<f64>() / 2.0;
            Ok(Gradient { loss, tensors })
        }

        fn group(&self) -> &dyn ProcessGroup {
            &SingleProcess
        }
    }

    /// Message, place and length of the bar after each word of a probe with this configuration.
    fn seen(toml: &str, products: u64) -> Vec<(String, u64)> {
        let display = Display { bar: ProgressBar::hidden() };
        let (mut advance, bar) = (display.bar(products), display.bar.clone());
        assert_eq!(
            (bar.message().as_str(), bar.length()),
            ("measuring the gradient's noise", Some(products))
        );
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let config = format!("{toml}\n[log]\ntensorboard = false\njsonl = false");
        let mut probe = HessianProbe::new(ProbeConfig::from_toml_str(&config).unwrap()).unwrap();
        probe.on_progress(move |progress| {
            advance(progress);
            shared.lock().unwrap().push((bar.message(), bar.position()));
        });
        let x = || Tensor::from_slice(&[1.0, -2.0, 0.5, 3.0]);
        probe.probe(0, &mut Valley([x(), x()])).unwrap();
        seen.lock().unwrap().clone()
    }

    #[test]
    fn the_bar_goes_through_all_products_and_ends_full() {
        let places = seen("[slq]\nsteps = 3\nprobes = 2", 6);
        let steps = places.iter().map(|(message, _)| message.as_str()).collect::<Vec<_>>();
        for step in
            ["probe 1/2, step 1/3", "probe 1/2, step 3/3", "probe 2/2, step 1/3", "probe 2/2, step 3/3"]
        {
            assert!(steps.contains(&step), "{step}: {steps:?}");
        }
        assert!(places.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{places:?}");
        assert_eq!(places.last().unwrap().1, 6, "{places:?}");

        // A run that ends early, here after the four eigenvalues that there are, counts as all that it could be.
        let places = seen("[slq]\nsteps = 8\nprobes = 2", 16);
        assert_eq!(places.last().unwrap().1, 16, "{places:?}");

        // Blocks come after, and the bar goes on from where it is.
        let blocks = "[blocks]\nby = \"tensor\"\nspectrum_steps = 0\nvectors = 2";
        let places = seen(&format!("[slq]\nsteps = 3\nprobes = 1\n{blocks}"), 12);
        let (message, place) = places.last().unwrap();
        assert!(message.starts_with("blocks, product ") && *place > 3, "{places:?}");
        let (done, planned) = message["blocks, product ".len()..].split_once('/').unwrap();
        assert_eq!(done, planned, "{message}");
        assert_eq!(*place, 3 + planned.parse::<u64>().unwrap());
    }

    #[test]
    fn the_bar_is_drawn_as_it_is_meant() {
        // Or else it would be some other bar, without a word on the time.
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        assert!(["{msg}", "{elapsed}", "{eta}"].iter().all(|part| TEMPLATE.contains(part)));
    }
}
