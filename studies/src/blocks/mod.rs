//! How much of a Hessian is block-diagonal: of SmolLM2-135M on several texts, and of the demo's model over its
//! training. `docs/studies/blocks.md` reports it.
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
    options.check(&measure::parts())?;
    let output = Output::new("blocks", options)?;
    let study = if options.from_record {
        output.recorded()?
    } else {
        measure::run(options, &Programs::beside_this(options.reuse)?, &output, || output.recorded())?
    };
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
        let record = include_str!("../../../docs/studies/blocks.json");
        let page = include_str!("../../../docs/studies/blocks.md");
        let study = serde_json::from_str(record).unwrap();
        let claims = claims::of(&study);
        assert_eq!(page::fill(page, &tables::sections(&study, &claims)).unwrap(), page);
        let texts = include_str!("../../../docs/studies/blocks-texts.svg");
        let training = include_str!("../../../docs/studies/blocks-training.svg");
        let figures = figures::all(&study).unwrap();
        assert!(figures == [("texts", texts.to_owned()), ("training", training.to_owned())]);
        assert!(!claims.is_empty());
        for claim in &claims {
            assert!(claim.holds, "{claim:?}");
        }
    }
}
