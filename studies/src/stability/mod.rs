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
    options.check(&[])?;
    let output = Output::new("stability", options)?;
    let study = if options.from_record { output.recorded()? } else { measure::run(options, &output)? };
    let claims = claims::of(&study);
    output.publish(&study, &tables::sections(&study, &claims), &figures::all(&study)?)?;
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page;

    /// Nobody has typed a figure into the page, and what it claims followed from the record beside it.
    #[test]
    fn the_page_shows_what_the_record_says() {
        let record = include_str!("../../../docs/studies/stability.json");
        let page = include_str!("../../../docs/studies/stability.md");
        let study = serde_json::from_str(record).unwrap();
        let claims = claims::of(&study);
        assert_eq!(page::fill(page, &tables::sections(&study, &claims)).unwrap(), page);
        let drawn = [
            ("descent", include_str!("../../../docs/studies/stability-descent.svg").to_owned()),
            ("adam", include_str!("../../../docs/studies/stability-adam.svg").to_owned()),
            ("driven", include_str!("../../../docs/studies/stability-driven.svg").to_owned()),
            ("control", include_str!("../../../docs/studies/stability-control.svg").to_owned()),
        ];
        assert!(figures::all(&study).unwrap() == drawn);
        assert!(!claims.is_empty());
        for claim in &claims {
            assert!(claim.holds, "{claim:?}");
        }
    }
}
