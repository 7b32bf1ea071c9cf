//! `hessian-probe compare`: two snapshots side by side, with the significance of their differences.
//!
//! - `significance`: when a difference is one;
//! - `quantity`: what is compared;
//! - `notes`: what is not comparable, and what else differs;
//! - `table`: on the terminal.

mod notes;
mod quantity;
mod significance;
mod table;

use crate::arguments::CompareArguments;
use crate::failure;
use crate::place::Place;
use crate::run::Run;
use hessian_probe::Snapshot;
use quantity::Quantity;
use serde::Serialize;
use std::process::ExitCode;

pub fn run(arguments: &CompareArguments) -> ExitCode {
    match compare(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failure::say(&reason),
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Comparison {
    a: Side,
    b: Side,
    /// What has to be known before any number.
    notes: Vec<String>,
    quantities: Vec<Quantity>,
    /// Those of blocks that both have.
    blocks: Vec<Quantity>,
}

#[derive(Debug, Serialize)]
struct Side {
    path: String,
    step: u64,
    parameters: u64,
    probes: usize,
    warnings: Vec<String>,
}

fn compare(arguments: &CompareArguments) -> Result<(), String> {
    let [a, b] = [&arguments.a, &arguments.b].map(|place| Run::read(&place.path).map(|run| (place, run)));
    let (a, b) = (a?, b?);
    let (first, second) = (snapshot(&a)?, snapshot(&b)?);
    let side = |place: &Place, snapshot: &Snapshot| Side {
        path: place.path.display().to_string(),
        step: snapshot.step,
        parameters: snapshot.parameters,
        probes: snapshot.probes.len(),
        warnings: snapshot.warnings.clone(),
    };
    let comparison = Comparison {
        a: side(a.0, first),
        b: side(b.0, second),
        notes: notes::notes((&a.1, first), (&b.1, second)),
        quantities: quantity::quantities(first, second),
        blocks: quantity::of_blocks(first, second),
    };
    if arguments.json {
        let text = serde_json::to_string_pretty(&comparison).map_err(|error| error.to_string())?;
        println!("{text}");
    } else {
        print!("{}", table::Shown(&comparison));
    }
    Ok(())
}

/// The one that is named.
fn snapshot<'a>((place, run): &'a (&Place, Run)) -> Result<&'a Snapshot, String> {
    run.at(place.step).map_err(|reason| format!("{}: {reason}", place.path.display()))
}
