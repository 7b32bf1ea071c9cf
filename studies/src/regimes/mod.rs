//! In which regime of step and precision a Hessian can be measured: the demo's model after its training, and
//! SmolLM2-135M.
//!
//! - [`measure`]: runs the programs
//! - [`record`]: what is kept of their reports
//! - [`tables`]: how it is shown; `hessian-probe calibrate` draws the curves
//! - [`claims`]: what the page says about it

mod claims;
mod measure;
mod record;
mod tables;

use crate::claim::Claim;
use crate::output::Output;
use crate::programs::Programs;
use crate::{Options, Result};

/// The demo's model: measures, publishes, and returns what was claimed.
///
/// # Errors
/// Where a program fails or results cannot be written.
pub fn run(options: &Options) -> Result<Vec<Claim>> {
    of("regimes", measure::demo, options)
}

/// SmolLM2-135M.
///
/// # Errors
/// As of [`run`].
pub fn run_smollm2(options: &Options) -> Result<Vec<Claim>> {
    of("regimes-smollm2", measure::smollm2, options)
}

fn of(
    name: &'static str,
    measure: fn(&Options, &Programs, &Output) -> Result<record::Study>,
    options: &Options,
) -> Result<Vec<Claim>> {
    let output = Output::new(name, options)?;
    let study = if options.from_record {
        output.recorded()?
    } else {
        measure(options, &Programs::beside_this(options.reuse)?, &output)?
    };
    let claims = claims::of(&study);
    output.publish(&study, &tables::sections(&study, &claims), &[])?;
    Ok(claims)
}
