//! Whether a learning rate is stable, as a probe tells it while a model trains: gradient descent at 2/η, Adam at 38/η, and
//! alarms before a loss spikes. `docs/studies/stability.md` reports it.
//!
//! - [`descent`], [`language`]: the trainings
//! - [`measure`]: runs them with probes registered
//! - [`record`]: what is kept of the probes' logs
//! - [`tables`], [`figures`]: how it is shown
//! - [`claims`]: what the page says about it

mod claims;
mod descent;
mod figures;
mod language;
mod measure;
mod record;
mod tables;

use crate::claim::Claim;
use crate::output::Output;
use crate::{Options, Result};

/// Measures, publishes, and returns what was claimed.
///
/// # Errors
/// Where a training fails or results cannot be written.
pub fn run(options: &Options) -> Result<Vec<Claim>> {
    let output = Output::new("stability", options)?;
    let study = if options.from_record { output.recorded()? } else { measure::run(options, &output)? };
    let claims = claims::of(&study);
    output.publish(&study, &tables::sections(&study, &claims), &figures::all(&study)?)?;
    Ok(claims)
}
