//! Which cases are measured, and the processes that measure them.
//!
//! It takes hours: each case is kept in a file as soon as it is measured, and `--resume` measures those that are missing.

use crate::case::{Case, LARGEST, Task};
use crate::memory::Memories;
use crate::options::Options;
use crate::report::Report;
use crate::time::Times;
use crate::{Result, support};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What was measured so far, in `target/bench/scaling-cases.json`.
#[derive(Default, Serialize, Deserialize)]
pub struct Cases {
    times: Vec<(Case, Times)>,
    memories: Vec<(Case, Memories)>,
}

pub fn run(options: &Options) -> Result<Report> {
    let path = support::directory()?.join("scaling-cases.json");
    let mut cases = match options.resume {
        true => serde_json::from_slice(&std::fs::read(&path)?)?,
        false => Cases::default(),
    };
    for size in options.sizes()? {
        for &world_size in &options.ranks {
            // In one process it would not fit, in four there is nothing to learn.
            if size.name == LARGEST && world_size != 2 {
                continue;
            }
            let task = Task::Time { rounds: options.rounds as usize };
            let case = Case { task, size: size.clone(), world_size, threads: options.threads };
            add(&mut cases.times, case.clone(), &[])?;
            let case = Case { task: Task::Memory, ..case };
            add(&mut cases.memories, case, &support::MALLOC)?;
            std::fs::write(&path, serde_json::to_string(&cases)?)?;
        }
    }
    Report::new(cases.times, cases.memories)
}

/// Measures a case that is not among those `found`, in a process of its own, or one for each rank; rank 0 tells.
fn add<T: DeserializeOwned>(
    found: &mut Vec<(Case, T)>,
    case: Case,
    environment: &[(&str, &str)],
) -> Result<()> {
    if found.iter().any(|(known, _)| *known == case) {
        return Ok(());
    }
    eprintln!("measuring {} {:?}", case.place(), case.task);
    let measured = support::measure(&case, case.world_size, case.threads, environment)?;
    found.push((case, measured));
    Ok(())
}
