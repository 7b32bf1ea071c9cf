//! How the time and memory of a probe grow with the model, the ranks, and the probe itself, and whether a plan foretells them.
//!
//! For each size of a model and number of ranks, probes of several m, r and ways to keep Lanczos vectors are taken in one
//! process a rank, in turn, some of them also with measuring the noise, with gradients timed alone before each: what is
//! compared was measured within seconds. Medians over rounds are the points. To some of them the [law](hessian_probe::cost)
//! is fitted; the others are foretold by a [`Plan`](hessian_probe::cost::Plan) that is told the time of one gradient, as a
//! user would, and nothing else of them.
//!
//! - [`case`]: models and probes; [`time`], [`memory`]: what is measured of them, in processes of their own
//! - [`measure`]: runs the processes
//! - [`record`]: what is kept
//! - [`points`], [`least_squares`], [`fit`], [`exponents`], [`law`]: what follows from it
//! - [`tables`], [`figures`]: how it is shown
//! - [`claims`]: what the page says about it

mod case;
mod claims;
mod exponents;
mod figures;
mod fit;
mod law;
mod least_squares;
mod measure;
mod memory;
mod points;
mod record;
mod tables;
mod time;

use crate::claim::Claim;
use crate::output::Output;
use crate::page::Section;
use crate::study::Study;
use crate::{Options, Result};
use law::Law;
pub use measure::work;
pub use record::Study as Scaling;

impl Study for Scaling {
    const NAME: &'static str = "scaling";

    fn measure(options: &Options, output: &Output, _recorded: Option<Self>) -> Result<Self> {
        measure::run(options, output)
    }

    fn claims(&self) -> Vec<Claim> {
        match Law::of(self) {
            Ok(law) => claims::of(self, &law),
            Err(error) => vec![Claim::new(false, "The law can be fitted.", error.to_string())],
        }
    }

    fn sections(&self, claims: &[Claim]) -> Vec<Section> {
        // Where there is no law, a claim says so.
        tables::sections(self, Law::of(self).ok().as_ref(), claims)
    }

    fn figures(&self) -> Result<Vec<(&'static str, String)>> {
        figures::all(&Law::of(self)?)
    }

    fn derived(&self) -> Result<Vec<(&'static str, serde_json::Value)>> {
        Ok(vec![("law", serde_json::to_value(Law::of(self)?)?)])
    }
}
