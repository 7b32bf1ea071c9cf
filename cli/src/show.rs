//! `hessian-probe show`: a report, or a snapshot of a log, as a table.

use crate::arguments::ShowArguments;
use crate::failure;
use crate::run::Run;
use crate::summary::Summary;
use std::process::ExitCode;

pub fn run(arguments: &ShowArguments) -> ExitCode {
    match show(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failure::say(&reason),
    }
}

fn show(arguments: &ShowArguments) -> Result<(), String> {
    let run = Run::read(&arguments.path)?;
    for line in &run.unreadable {
        eprintln!("note: not read: {line}");
    }
    let snapshot =
        run.at(arguments.step).map_err(|reason| format!("{}: {reason}", arguments.path.display()))?;
    println!("step             {}", snapshot.step);
    print!("{}", Summary(snapshot));
    Ok(())
}
