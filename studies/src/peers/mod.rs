//! What a Hessian-vector product costs here and in libraries for PyTorch, on the same weights, tokens and vectors, and
//! whether the results agree. `docs/studies/peers.md` reports it; `benches/peers` holds the side of Python.
//!
//! - [`task`], [`found`]: what a process is told, and what it tells
//! - [`ours`]: the process that measures this crate; [`clock`] and [`memory`](crate::memory) are what it measures with
//! - [`measure`]: runs the processes, one for each library, kind of product and quantity
//! - [`inputs`]: the model, its text and the vectors
//! - [`agreement`]: how far products are from the reference
//! - [`record`]: what is kept
//! - [`tables`], [`figures`]: how it is shown
//! - [`claims`]: what the page says about it

mod agreement;
mod claims;
mod clock;
mod figures;
mod found;
mod inputs;
mod measure;
mod ours;
mod record;
mod tables;
mod task;

use crate::claim::Claim;
use crate::output::Output;
use crate::page::Section;
use crate::study::Study;
use crate::{Options, Result};
pub use ours::work;
pub use record::Study as Peers;

impl Study for Peers {
    const NAME: &'static str = "peers";

    fn measure(options: &Options, output: &Output, _recorded: Option<Self>) -> Result<Self> {
        measure::run(options, output)
    }

    fn claims(&self) -> Vec<Claim> {
        claims::of(self)
    }

    fn sections(&self, claims: &[Claim]) -> Vec<Section> {
        tables::sections(self, claims)
    }

    fn readme(&self) -> Vec<Section> {
        vec![tables::readme(self)]
    }

    fn figures(&self) -> Result<Vec<(&'static str, String)>> {
        figures::all(self)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_shows_what_the_record_says() {
        crate::study::the_page_shows_what_the_record_says::<super::Peers>();
    }
}
