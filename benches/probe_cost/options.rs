//! The command line.

use clap::Parser;

/// What a probe costs the training that it watches.
#[derive(Debug, Parser)]
#[command(name = "probe_cost")]
pub struct Options {
    /// Small batches and one round: less than a minute, and rough.
    #[arg(long)]
    pub quick: bool,
    /// Fail where a target is missed.
    #[arg(long)]
    pub strict: bool,
    /// Threads of each rank of a one-rank case (two ranks have one each).
    #[arg(long, default_value_t = default_threads())]
    pub threads: usize,
    /// Rounds of probes over which medians are taken.
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    /// Only these models: `1M`, `10M`.
    #[arg(long, value_delimiter = ',')]
    pub models: Vec<String>,
    /// Only the first so many of the configurations that are timed.
    #[arg(long, default_value_t = crate::time::SCHEMES.len())]
    pub schemes: usize,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    pub bench: bool,
    /// One case, as JSON: what the benchmark starts itself with.
    #[arg(long, hide = true)]
    pub worker: Option<String>,
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}
