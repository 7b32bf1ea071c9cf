//! In which regime of step and precision a Hessian can be measured: the demo's model after its training, and
//! SmolLM2-135M. `docs/studies/regimes.md` reports it.
//!
//! - [`measure`]: runs the programs
//! - [`record`]: what is kept of their reports
//! - [`tables`], [`figures`]: how it is shown
//! - [`claims`]: what the page says about it

mod claims;
mod figures;
mod measure;
mod record;
mod tables;

use crate::claim::Claim;
use crate::output::Output;
use crate::programs::Programs;
use crate::{Options, Result};

/// Measures, publishes, and returns what was claimed.
///
/// # Errors
/// Where a program fails or results cannot be written.
pub fn run(options: &Options) -> Result<Vec<Claim>> {
    let output = Output::new("regimes", options)?;
    let study = if options.from_record {
        output.recorded()?
    } else {
        measure::run(options, &Programs::beside_this(options.reuse)?, &output)?
    };
    let claims = claims::of(&study);
    output.publish(&study, &tables::sections(&study, &claims), &figures::all(&study)?)?;
    Ok(claims)
}
