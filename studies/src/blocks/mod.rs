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
use crate::page::Section;
use crate::study::Study;
use crate::{Options, Result};
pub use record::Study as Blocks;

impl Study for Blocks {
    const NAME: &'static str = "blocks";

    fn parts() -> Vec<&'static str> {
        measure::parts()
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
        crate::study::the_page_shows_what_the_record_says::<super::Blocks>();
    }
}
