//! `hessian-probe show`: a report, or the last snapshot of a log, as a table.

use crate::arguments::ShowArguments;
use crate::failure;
use crate::summary::Summary;
use hessian_probe::Snapshot;
use hessian_probe::log::{Record, drop_orphans, read_jsonl};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

pub fn run(arguments: &ShowArguments) -> ExitCode {
    match snapshot(&arguments.file) {
        Ok(snapshot) => {
            println!("step             {}", snapshot.step);
            print!("{}", Summary(&snapshot));
            ExitCode::SUCCESS
        }
        Err(reason) => failure::say(&format!("{}: {reason}", arguments.file.display())),
    }
}

fn snapshot(path: &Path) -> Result<Snapshot, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let report = match serde_json::from_slice(&text) {
        Ok(report) => return Ok(report),
        Err(error) => error,
    };
    let last = read_jsonl(path).and_then(|records| records.collect::<Result<Vec<_>, _>>()).map(|records| {
        drop_orphans(records).into_iter().rev().find_map(|record| match record {
            Record::Snapshot(snapshot) => Some(*snapshot),
            _ => None,
        })
    });
    match last {
        Ok(Some(snapshot)) => Ok(snapshot),
        Ok(None) => Err("holds no snapshot".into()),
        Err(_) => Err(format!("is neither a report ({report}) nor a log of snapshots")),
    }
}
