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
    options.check(&measure::PARTS)?;
    let output = Output::new("regimes", options)?;
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
        let record = include_str!("../../../docs/studies/regimes.json");
        let page = include_str!("../../../docs/studies/regimes.md");
        let study = serde_json::from_str(record).unwrap();
        let claims = claims::of(&study);
        assert_eq!(page::fill(page, &tables::sections(&study, &claims)).unwrap(), page);
        let drawn = [
            ("demo", include_str!("../../../docs/studies/regimes-demo.svg").to_owned()),
            ("smollm2", include_str!("../../../docs/studies/regimes-smollm2.svg").to_owned()),
        ];
        assert!(figures::all(&study).unwrap() == drawn);
        assert!(!claims.is_empty());
        for claim in &claims {
            assert!(claim.holds, "{claim:?}");
        }
    }
}
