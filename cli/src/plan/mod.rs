//! `hessian-probe plan`: what a probe takes, before anything is loaded or run.
//!
//! ```text
//! sizes (config.json, or a number) ── share of a rank ── time of a gradient ──► cost::Plan ── table, JSON
//! ```
//! The law is the library's; here are the sizes, and the assumptions in words.

mod answer;
mod arguments;
mod assumed;
mod model;
mod show;
mod table;

pub use arguments::PlanArguments;

use crate::failure;
use answer::Answers;
use std::process::ExitCode;

/// Prints the plan.
pub fn run(arguments: &PlanArguments) -> ExitCode {
    let told = Answers::of(arguments).and_then(|answers| {
        if arguments.json {
            let json = serde_json::to_string_pretty(&answers).map_err(|error| error.to_string())?;
            println!("{json}");
        } else {
            print!("{answers}");
        }
        Ok(())
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failure::say(&reason),
    }
}
