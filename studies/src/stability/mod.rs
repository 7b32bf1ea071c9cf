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
use crate::page::Section;
use crate::study::Study;
use crate::{Options, Result};
pub use record::Study as Stability;

impl Study for Stability {
    const NAME: &'static str = "stability";

    fn measure(options: &Options, output: &Output, _recorded: Option<Self>) -> Result<Self> {
        measure::run(options, output)
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
        crate::study::the_page_shows_what_the_record_says::<super::Stability>();
    }
}
