//! `hessian-probe calibrate`: in which regime of step and precision the Hessian of a model can be measured.
//!
//! ```text
//! precisions ── points (where their forward passes stand) ──┐
//!   for each point:  model in f64, rounded ── reference ── dropped
//!                    for each precision:  model ── sweep ── dropped
//!                    for each precision:  model ── Lanczos runs ── dropped
//!                                                                 ──► tables, JSON, PNG
//! ```
//! One model is in memory at a time.

mod arguments;
mod plot;
mod point;
pub mod precision;
mod record;
mod reference;
mod study;
mod table;

pub use arguments::CalibrateArguments;

use crate::data;
use crate::display::Display;
use crate::failure::{self, Failure};
use crate::launch;
use crate::report::Report;
use crate::signals::Stop;
use hessian_probe_c10d::{ProcessGroup, is_launched};
use hessian_probe_fsdp::ModelSource;
use record::Calibration;
use std::process::ExitCode;
use study::Study;

/// Measures, on one rank.
pub fn run(arguments: &CalibrateArguments) -> ExitCode {
    let display = Display::new(launch::rank(), arguments.verbose);
    let stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => return failure::say(&error),
    };
    let outcome = calibrate(arguments, &display, &stop);
    display.end();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::Interrupted) => {
            failure::say(&failure);
            stop.exit_code()
        }
        Err(failure) => failure::say(&failure),
    }
}

fn calibrate(arguments: &CalibrateArguments, display: &Display, stop: &Stop) -> Result<(), Failure> {
    if is_launched() || arguments.ranks.is_some_and(|ranks| ranks.get() > 1) {
        return Err(Failure::from(
            "calibrate runs on one rank: its reference differentiates twice, and that needs the whole model. `spectrum` \
             says of each of its products, on any number of ranks, what error is predicted"
                .to_owned(),
        ));
    }
    let report = arguments.out.as_deref().map(|path| Report::at_flag("--out", path)).transpose()?;
    let image = arguments.plot.as_deref().map(|path| Report::at_flag("--plot", path)).transpose()?;
    if let Some(threads) = arguments.threads.and_then(|threads| i32::try_from(threads.get()).ok()) {
        tch::set_num_threads(threads);
    }
    let group = ProcessGroup::single();
    let source = ModelSource::open_together(&arguments.model, &group)?;
    let data = data::read(&arguments.data, source.config())?;
    let study = Study::new(arguments, &source, &data, &group)?;
    for line in study.announcement() {
        display.note(&line);
    }
    let record = |regimes, complete| Calibration::new(arguments, &data, regimes, complete);
    // Of a calibration that takes hours, what was measured outlives it.
    let keep = |regimes| match &report {
        Some(report) => Ok(report.write(&record(regimes, false))?),
        None => Ok(()),
    };
    let regimes = study.run(display, stop, &keep)?;
    display.end();
    let calibration = record(regimes, true);
    print!("{}", table::Tables(&calibration));
    if let Some(report) = &report {
        report.write(&calibration)?;
        println!("\nrecord           {}", report.path().display());
    }
    if let Some(image) = &image {
        image.write_bytes(&plot::png(&calibration)?)?;
        println!("plot             {}", image.path().display());
    }
    Ok(())
}
