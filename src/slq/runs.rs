//! What the runs of a probe share, whichever operator they are on, and what is made of each.

use super::best::Best;
use super::report::SpentOn;
use super::resume::Resume;
use crate::config::SlqConfig;
use crate::error::{Error, Result};
use crate::krylov::lanczos::orthogonality_defect;
use crate::krylov::{Basis, Lanczos, LanczosRun, Operator};
use crate::progress::Observer;
use crate::spectrum::{ProbeRecord, ghosts, quadrature};
use tch::Tensor;

pub(super) struct Runs<'a> {
    pub(super) step: u64,
    pub(super) slq: &'a SlqConfig,
    /// How many there are on the Hessian.
    pub(super) on_hessian: usize,
    /// How many there are on both operators.
    pub(super) all: usize,
    pub(super) basis: Basis,
    /// The one vector besides it.
    pub(super) w: Tensor,
    pub(super) observer: &'a mut Observer,
    /// Where they are saved, if they are.
    pub(super) resume: Option<Resume>,
    pub(super) best: Best,
    pub(super) spent_on: SpentOn,
}

impl Runs<'_> {
    pub(super) fn lanczos(&self) -> Lanczos {
        Lanczos { steps: self.slq.steps, reorthogonalize: self.slq.reorthogonalize }
    }
}

/// What a run found. T was computed from reduced sums: every rank fails alike, if at all.
pub(crate) fn spectrum(
    operator: &mut dyn Operator,
    index: u64,
    run: &LanczosRun,
    basis: &Basis,
    slq: &SlqConfig,
) -> Result<ProbeRecord> {
    let roundoff = operator.layout().vector_roundoff();
    let keeps_orthogonal = slq.reorthogonalize.keeps_all();
    let found = quadrature(index, run)
        .and_then(|record| if keeps_orthogonal { Ok(record) } else { ghosts::merge(record, run, roundoff) });
    let record = found.map_err(|_| Error::NonFinite {
        rank: operator.rank(),
        what: "the tridiagonal matrix T",
        during: "the quadrature",
    })?;
    let orthogonality_defect = if keeps_orthogonal { orthogonality_defect(operator, basis)? } else { None };
    Ok(ProbeRecord { orthogonality_defect, ..record })
}
