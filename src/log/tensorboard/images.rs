//! Images of a log, with their tags and what they mean.

use super::event::{Data, Value};
use super::plot::Png;
use super::state::State;
use crate::config::SpectrumOf;

/// An image that is to be written.
#[derive(Debug)]
pub(super) struct Image {
    tag: String,
    meaning: String,
    png: Png,
}

impl Image {
    /// The density at one step.
    pub(super) fn density(of: SpectrumOf, png: Png) -> Self {
        let (of, name) = operator(of);
        let meaning = format!(
            "Eigenvalues of {of} for each decade (upwards, logarithmic) over the eigenvalue (symmetric-logarithmic), with the \
             standard error over probe vectors as a band. Grey: eigenvalues that the noise hides."
        );
        Self { tag: format!("{name}/density_plot"), meaning, png }
    }

    /// The density over steps.
    pub(super) fn heat_map(of: SpectrumOf, png: Png) -> Self {
        let (of, name) = operator(of);
        let meaning = format!(
            "Eigenvalues of {of} (upwards, symmetric-logarithmic) over steps; the darker, the more for each decade, on a \
             logarithmic scale from 0.01. Between the dotted lines the noise hides them."
        );
        Self { tag: format!("{name}/heat_map"), meaning, png }
    }

    pub(super) fn value(self, state: &mut State) -> Value {
        state.value(&self.tag, &self.meaning, Data::Image(self.png))
    }
}

/// What a spectrum is of, and the first part of its tags: a chart must not mix two operators.
pub(super) fn operator(of: SpectrumOf) -> (&'static str, &'static str) {
    if of.includes_hessian() {
        ("the Hessian", "spectrum")
    } else {
        ("P^{-1/2} H P^{-1/2}", "preconditioned_spectrum")
    }
}
