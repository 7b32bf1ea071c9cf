//! Which cases are measured, and the processes that measure them.
//!
//! It takes hours: each case is kept in a file as soon as it is measured, and `--reuse` measures those that are missing.

use super::case::{Case, LARGEST, Size, Task};
use super::memory::{self, Memories};
use super::record::{Measured, Study};
use super::time::{self, Times};
use crate::memory::MALLOC;
use crate::output::Output;
use crate::{Options, Result, worker};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;

/// How this program is told to be a worker.
const WORKER: &str = "scaling-worker";

/// What was measured so far.
#[derive(Default, Serialize, Deserialize)]
struct Cases {
    times: Vec<(Case, Times)>,
    memories: Vec<(Case, Memories)>,
}

/// Time and memory of every size on every number of ranks.
///
/// # Errors
/// Where a process fails; what was measured until then is kept.
pub fn run(options: &Options, output: &Output) -> Result<Study> {
    let path = output.path("cases.json");
    let mut cases = match options.reuse && path.exists() {
        true => serde_json::from_slice(&fs::read(&path)?)?,
        false => Cases::default(),
    };
    let rounds = usize::try_from(options.rounds)?;
    let mut models = Vec::new();
    for (size, world_size) in plan(&options.sizes, &options.world_sizes)? {
        let task = Task::Time { rounds };
        let case = Case { task, size, world_size, threads: options.threads };
        let times = add(&mut cases.times, &case, &[])?;
        let case = Case { task: Task::Memory, ..case };
        let memories = add(&mut cases.memories, &case, &MALLOC)?;
        fs::write(&path, serde_json::to_string(&cases)?)?;
        models.push(Measured::of(&case, &cases.times[times].1, &cases.memories[memories].1)?);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Study { cores, threads: options.threads, rounds, models })
}

/// Sizes from the smallest on, each on all numbers of ranks; all of both where none is named.
fn plan(sizes: &[String], world_sizes: &[usize]) -> Result<Vec<(Size, usize)>> {
    if world_sizes.contains(&0) {
        return Err("--world-sizes: there is no world of 0 ranks".into());
    }
    for name in sizes {
        Size::named(name)?;
    }
    let wanted = |name: &&&str| sizes.is_empty() || sizes.iter().any(|size| size == *name);
    let world_sizes = if world_sizes.is_empty() { &[1, 2, 4] } else { world_sizes };
    let mut plan = Vec::new();
    for name in Size::names().iter().filter(wanted) {
        // The largest would not fit into one process, and in four there is nothing to learn.
        let fits = |&&ranks: &&usize| *name != LARGEST || ranks == 2;
        for &ranks in world_sizes.iter().filter(fits) {
            plan.push((Size::named(name)?, ranks));
        }
    }
    Ok(plan)
}

/// Measures a case that is not among those `found`, in a process of its own, or one for each rank, of which rank 0 tells.
/// Returns where it is among them.
fn add<T: DeserializeOwned>(
    found: &mut Vec<(Case, T)>,
    case: &Case,
    environment: &[(&str, &str)],
) -> Result<usize> {
    if let Some(at) = found.iter().position(|(known, _)| known == case) {
        return Ok(at);
    }
    eprintln!("{} on {} rank(s): {:?}", case.size.name, case.world_size, case.task);
    let measured = worker::measure(WORKER, case, (case.world_size, case.threads), environment)?;
    found.push((case.clone(), measured));
    Ok(found.len() - 1)
}

/// What such a process does: one case, whose result is one line.
///
/// # Errors
/// Where the case is none, or cannot be measured.
pub fn work(case: &str) -> Result<()> {
    let case: Case = serde_json::from_str(case)?;
    let result = match case.task {
        Task::Time { rounds } => serde_json::to_value(time::measure(&case, rounds)?)?,
        Task::Memory => serde_json::to_value(memory::measure(&case)?)?,
    };
    worker::tell(&result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_model_is_measured_over_two_ranks_only() {
        let names = |sizes: &[&str], ranks: &[usize]| -> Vec<(String, usize)> {
            let sizes: Vec<String> = sizes.iter().map(|&size| size.into()).collect();
            let plan = plan(&sizes, ranks).unwrap();
            plan.into_iter().map(|(size, ranks)| (size.name, ranks)).collect()
        };
        assert_eq!(
            names(&[LARGEST, "1M"], &[1, 2]),
            [("1M".into(), 1), ("1M".into(), 2), (LARGEST.into(), 2)]
        );
        assert_eq!(names(&[], &[]).len(), 3 * (Size::names().len() - 1) + 1);
    }

    #[test]
    fn a_size_that_is_not_known_and_no_ranks_are_errors() {
        let error = plan(&["3M".into()], &[]).unwrap_err().to_string();
        assert!(error.contains("3M") && error.contains("0.2M"), "{error}");
        assert!(plan(&[], &[0]).is_err());
    }
}
