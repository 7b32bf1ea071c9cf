//! What a probe costs the training that it watches. `cargo xtask bench [--quick] [--strict]`.
//!
//! | figure | target |
//! |---|---|
//! | time of a probe ÷ (its gradients × one gradient of training), full reorthogonalisation | ≤ 1.10 |
//! | the same without reorthogonalisation | ≤ 1.04 |
//! | a product by forward, central differences, in gradients | ≤ 1.05, ≤ 2.05 |
//! | vector work of a Lanczos step without reorthogonalisation ÷ a plain copy of as many bytes | ≤ 1.5 |
//! | `on_step_end` where no probe is due | < 20 µs |
//! | memory beyond the basis, in vectors of a rank's shard | ≤ 4 |
//! | `f64` that a Lanczos step reduces beyond the basis' coefficients | ≤ 8 |
//! | all_reduces of a Lanczos step | ≤ 3 |
//! | a sharded gradient on one rank ÷ the same of whole parameters, blocks run again in both | ≤ 1.05 |
//!
//! The machine's noise is kept out as far as it can be: what is compared is measured in turn within one
//! process ([`time`]), or in processes that differ in one thing ([`memory`]); counts are taken by a group
//! of our own ([`instrumented`]), not from the probe's account of itself.

mod callback;
mod case;
mod gradients;
mod instrumented;
mod memory;
mod options;
mod plan;
mod products;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod time;
mod traffic;

use case::{Case, Task};
use options::Options;
pub use support::Result;

fn main() -> Result<()> {
    let Some(options) = support::from_arguments::<Options>("probe_cost", "cargo xtask bench") else {
        return Ok(());
    };
    if let Some(case) = &options.worker {
        return work(&serde_json::from_str(case)?);
    }
    let report = plan::run(&options)?;
    print!("{report}");
    println!("\nwritten to {}", report.write()?.display());
    if options.strict && report.missed() > 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// What one process of the benchmark does: one case, whose result is one line.
fn work(case: &Case) -> Result<()> {
    let result = match case.task {
        Task::Time { rounds, schemes } => serde_json::to_value(time::measure(case, rounds, schemes)?)?,
        Task::Traffic => serde_json::to_value(traffic::measure(case)?)?,
        Task::Memory { probe } => serde_json::to_value(memory::measure(case, probe)?)?,
        Task::Gradients { rounds } => serde_json::to_value(gradients::measure(case, rounds)?)?,
        Task::Products { rounds } => serde_json::to_value(products::measure(case, rounds)?)?,
        Task::Callback => serde_json::to_value(callback::measure(case)?)?,
    };
    support::tell(&result)
}
