//! How the cost of a probe grows. `cargo xtask bench --scaling [--sizes 0.2M,1M,…] [--ranks 1,2,4]`.
//!
//! For each size of a model and number of ranks, probes of several m, r and ways to keep Lanczos vectors are taken in one
//! process a rank, in turn, with gradients timed alone before each: what is compared was measured within seconds. Medians
//! over the rounds are the points. To some of them the [law](hessian_probe::cost) is fitted ([`fit`]); the others are
//! foretold by a [`Plan`](hessian_probe::cost::Plan) that is told the time of one gradient, as a user would, and nothing else of
//! them ([`points`]). Memory is measured in processes of their own ([`memory`]).
//!
//! | figure | target |
//! |---|---|
//! | foretold time of a probe against the measured one, on points held out of the fit | within 15 % |
//! | foretold memory, likewise; nothing is fitted | within 10 % |
//!
//! `target/bench/scaling.json` has everything, and the constants that `hessian-probe plan --machine` reads.

mod case;
mod exponents;
mod fit;
mod least_squares;
mod memory;
mod options;
mod plan;
mod plot;
mod points;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod time;

use case::{Case, Task};
use options::Options;
pub use support::Result;

fn main() -> Result<()> {
    let Some(options) = support::from_arguments::<Options>("scaling", "cargo xtask bench --scaling") else {
        return Ok(());
    };
    if let Some(case) = &options.worker {
        return work(&serde_json::from_str(case)?);
    }
    let report = plan::run(&options)?;
    print!("{report}");
    for path in report.write()? {
        println!("written to {}", path.display());
    }
    if options.strict && report.missed() > 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// What one process of the benchmark does: one case, whose result is one line.
fn work(case: &Case) -> Result<()> {
    let result = match case.task {
        Task::Time { rounds } => serde_json::to_value(time::measure(case, rounds)?)?,
        Task::Memory => serde_json::to_value(memory::measure(case)?)?,
    };
    support::tell(&result)
}
