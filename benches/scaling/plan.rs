//! Which cases are measured, and the processes that measure them.

use crate::case::{Case, LARGEST, Task};
use crate::memory::Memories;
use crate::options::Options;
use crate::report::Report;
use crate::time::Times;
use crate::{Result, support};
use serde::de::DeserializeOwned;

pub fn run(options: &Options) -> Result<Report> {
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for size in options.sizes()? {
        for &world_size in &options.ranks {
            // In one process it would not fit, in four there is nothing to learn.
            if size.name == LARGEST && world_size != 2 {
                continue;
            }
            let task = Task::Time { rounds: options.rounds as usize };
            let case = Case { task, size: size.clone(), world_size, threads: options.threads };
            times.push((case.clone(), measure::<Times>(&case, &[])?));
            let case = Case { task: Task::Memory, ..case };
            memories.push((case.clone(), measure::<Memories>(&case, &support::MALLOC)?));
        }
    }
    Report::new(times, memories)
}

/// Runs a case in a process of its own, or one for each rank, and reads rank 0's result.
fn measure<T: DeserializeOwned>(case: &Case, environment: &[(&str, &str)]) -> Result<T> {
    eprintln!("measuring {} {:?}", case.place(), case.task);
    support::measure(case, case.world_size, case.threads, environment)
}
