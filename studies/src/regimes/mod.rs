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
use crate::page::Section;
use crate::study::Study;
use crate::{Options, Result};
pub use record::Study as Regimes;

impl Study for Regimes {
    const NAME: &'static str = "regimes";

    fn parts() -> Vec<&'static str> {
        measure::PARTS.to_vec()
    }

    fn measure(options: &Options, output: &Output, recorded: Option<Self>) -> Result<Self> {
        measure::run(options, output, recorded)
    }

    fn claims(&self) -> Vec<Claim> {
        claims::of(self)
    }

    fn sections(&self, claims: &[Claim]) -> Vec<Section> {
        tables::sections(self, claims)
    }

    fn figures(&self) -> Result<Vec<(&'static str, String)>> {
        figures::all(self)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_shows_what_the_record_says() {
        crate::study::the_page_shows_what_the_record_says::<super::Regimes>();
    }

    #[test]
    fn the_page_tells_how_to_read_everything_that_a_snapshot_says_of_its_products() {
        let page = include_str!("../../../docs/studies/regimes.md");
        let report = serde_json::to_value(hessian_probe::spectrum::HvpReport::default()).unwrap();
        for field in report.as_object().unwrap().keys() {
            assert!(page.contains(&format!("`hvp.{field}`")), "{field}");
        }
    }
}
