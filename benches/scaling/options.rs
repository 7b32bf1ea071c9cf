//! The command line.

use crate::case::Size;
use clap::Parser;

/// How the cost of a probe grows with the model, the ranks, and the probe itself.
#[derive(Debug, Parser)]
#[command(name = "scaling")]
pub struct Options {
    /// Sizes of models, separated by commas; the largest, 0.5B, runs on two ranks only
    #[arg(long, value_delimiter = ',', default_value = "0.2M,1M,4M,10M,40M,130M,0.5B")]
    pub sizes: Vec<String>,
    /// Numbers of ranks
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    pub ranks: Vec<usize>,
    /// Rounds over which medians are taken
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Threads of each rank
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Go on with what was measured before, in target/bench/scaling-cases.json
    #[arg(long)]
    pub resume: bool,
    /// Fail where a point that was held out misses its target
    #[arg(long)]
    pub strict: bool,
    /// Cargo passes it
    #[arg(long, hide = true)]
    pub bench: bool,
    /// One case, as JSON: what the benchmark starts itself with
    #[arg(long, hide = true)]
    pub worker: Option<String>,
}

impl Options {
    /// The sizes, from the smallest on.
    pub fn sizes(&self) -> crate::Result<Vec<Size>> {
        if self.ranks.contains(&0) || self.ranks.is_empty() || self.sizes.is_empty() {
            return Err("--sizes and --ranks name one at least, and no 0".into());
        }
        for name in &self.sizes {
            Size::named(name)?;
        }
        let wanted = Size::names().into_iter().filter(|known| self.sizes.iter().any(|name| name == known));
        wanted.map(Size::named).collect()
    }
}
