//! The vector that tracking starts from: that of the largest Ritz value of all runs.

use super::STARTING;
use crate::krylov::ritz::RitzVectors;
use crate::krylov::{Basis, LanczosRun, Operator};
use crate::sharded::vector::copied;
use crate::spectrum::ProbeRecord;
use tch::{TchError, Tensor};

/// The best of a probe's runs so far, where it is wanted. What an earlier probe left stays as it is until this one is
/// complete on all ranks: its parts must be of one vector.
pub(super) struct Best {
    wanted: bool,
    highest: f64,
    vector: Option<Tensor>,
}

impl Best {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, highest: f64::NEG_INFINITY, vector: None }
    }

    /// A run that is complete. `w` is scratch. A failure is deferred to the operator's next sum.
    pub(super) fn offer(
        &mut self,
        operator: &mut dyn Operator,
        record: &ProbeRecord,
        run: &LanczosRun,
        basis: &Basis,
        w: &mut Tensor,
    ) {
        let Some(&highest) = record.nodes.last().filter(|highest| self.wanted && **highest > self.highest)
        else {
            return;
        };
        self.highest = highest;
        // A Ritz vector is made of all vectors of its run; T was decomposed before, without an error.
        if let (true, Ok(ritz)) = (basis.stored() >= run.alpha.len(), RitzVectors::new(run)) {
            let kept = ritz.write(ritz.top(), basis, w).and_then(|()| self.keep(w));
            operator.defer(STARTING, kept);
        }
    }

    fn keep(&mut self, w: &Tensor) -> Result<(), TchError> {
        match &mut self.vector {
            Some(vector) => {
                let _no_grad = tch::no_grad_guard();
                vector.f_copy_(w)
            }
            None => copied(w).map(|vector| self.vector = Some(vector)),
        }
    }

    /// How many vectors there are, `top` and its successor.
    pub(super) fn vectors(&self, top: &Option<Tensor>) -> u64 {
        u64::from(top.is_some()) + u64::from(self.vector.is_some())
    }

    /// The probe is complete.
    pub(super) fn hand_on(self, top: &mut Option<Tensor>) {
        if self.vector.is_some() {
            *top = self.vector;
        }
    }
}
