//! The program `hessian-probe`: what [`hessian_probe`] does inside a training loop, for a model that is saved.
//!
//! ```text
//! arguments ── launch (--ranks N: this program again, N times) ──┐
//!     │                                                          ▼
//!     └── spectrum, one rank:  report (can it be written?) ── model ── data ── probe ── report, logs ── summary
//! ```
//! All ranks do the same; what one of them fails in is told to all, and one of them says it ([`failure`]).

mod arguments;
mod calibrate;
mod choice;
mod compare;
mod data;
mod display;
mod failure;
mod image;
mod launch;
mod malloc;
mod number;
mod options;
mod place;
mod plan;
mod render;
mod report;
mod run;
mod show;
mod signals;
mod spectrum;
mod summary;
mod table;

use arguments::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    malloc::configure();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // All ranks have the same arguments: one of them is enough.
            if launch::rank() == 0 {
                let _ = error.print();
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match arguments.command {
        Command::Spectrum(arguments) => spectrum::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Render(arguments) => render::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
    }
}
