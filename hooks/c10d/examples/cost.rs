//! What a collective costs on this machine: `cargo run -p hessian-probe-c10d --example cost -- 2`.
//!
//! Starts the given number of ranks (default 2) on loopback, once for each setting of
//! `HESSIAN_PROBE_C10D_CHECK`, and prints the median time of a call on rank 0.

use hessian_probe_c10d::{Launcher, ProcessGroup, ReduceOp, is_launched};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

const SIZES: [i64; 6] = [1, 100, 1_000, 100_000, 1_000_000, 10_000_000];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if !is_launched() {
        let ranks = std::env::args().nth(1).map_or(Ok(2), |ranks| ranks.parse())?;
        for check in ["always", "first"] {
            println!("\n{ranks} ranks, HESSIAN_PROBE_C10D_CHECK={check}\n");
            Launcher::new(ranks).env("HESSIAN_PROBE_C10D_CHECK", check).run()?.into_result()?;
        }
        return Ok(());
    }
    let group = ProcessGroup::from_env(Duration::from_secs(60))?;
    if group.rank() == 0 {
        println!("| f32 elements | all_reduce | all_gather_into | reduce_scatter_into |\n|---|---|---|---|");
    }
    for size in SIZES {
        let world_size = i64::try_from(group.world_size())?;
        let whole = Tensor::zeros([size * world_size], (Kind::Float, Device::Cpu));
        let part = Tensor::zeros([size], (Kind::Float, Device::Cpu));
        let calls = if size > 100_000 { 11 } else { 301 };
        let times = [
            median(calls, || group.all_reduce(&part, ReduceOp::Sum))?,
            median(calls, || group.all_gather_into(&whole, &part))?,
            median(calls, || group.reduce_scatter_into(&part, &whole, ReduceOp::Sum))?,
        ];
        if group.rank() == 0 {
            println!("| {size} | {:?} | {:?} | {:?} |", times[0], times[1], times[2]);
        }
    }
    Ok(())
}

fn median(
    calls: usize,
    mut call: impl FnMut() -> hessian_probe_c10d::Result<()>,
) -> hessian_probe_c10d::Result<Duration> {
    let mut times = Vec::with_capacity(calls);
    for _ in 0..calls {
        let started = Instant::now();
        call()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[calls / 2])
}
