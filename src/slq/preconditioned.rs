//! Runs on the Hessian as the loop's optimizer sees it, and what it bears.

use super::resume::Earlier;
use super::runs::{Runs, spectrum};
use super::start::draw_into;
use crate::config::{SlqConfig, SpectrumOf};
use crate::error::{Error, Result};
use crate::hash::{as_f64, fnv1a};
use crate::host::Host;
use crate::krylov::lanczos::agree;
use crate::krylov::{LanczosState, Operator, Wrapper};
use crate::operator::Preconditioned;
use crate::operator::ProductRecord;
use crate::operator::finite_difference::FiniteDifference;
use crate::optimizer::{Optimizer, PreconditionedSpectrum, Preconditioner, Stability};
use crate::sharded::random::RandomProbe;
use crate::sharded::ranks::Ranks;
use crate::spectrum::{Extreme, HvpReport, ProbeRecord, largest, smallest};

const LENDING: &str = "lending the optimizer";
const STARTING: &str = "drawing a preconditioned probe vector";

/// The host's optimizer, for the time of a probe.
#[derive(Default)]
pub(crate) struct Lent {
    optimizer: Option<Optimizer>,
    preconditioner: Option<Preconditioner>,
}

/// The runs, as they were.
pub(super) struct Found {
    pub(super) probes: Vec<ProbeRecord>,
    pub(super) moved: u64,
    pub(super) products: Vec<ProductRecord>,
    pub(super) redone: u64,
}

impl Lent {
    /// What the host lends. Collective where the preconditioned operator is asked for: ranks make sure that they all
    /// have it, with the same settings. Where it is left out, that is said when its reason is not `left_out`, the last one.
    pub(crate) fn of(
        host: &dyn Host,
        operator: SpectrumOf,
        ranks: &mut Ranks,
        left_out: &mut Option<String>,
        step: u64,
    ) -> Result<Self> {
        let rank = ranks.rank();
        let lent = host.optimizer().map_err(|source| Error::Host { rank, during: LENDING, source });
        if operator.is_hessian() {
            let lent = lent.unwrap_or_else(|error| {
                ::log::warn!(target: "hessian_probe", "step {step}: {error}; nothing is said of its stability");
                None
            });
            // What bounds adaptive steps is another operator, which was not asked for.
            return Ok(Self {
                optimizer: lent.filter(|optimizer| optimizer.kind.adaptive().is_none()),
                preconditioner: None,
            });
        }
        let shards = host.shards();
        let fitting = lent.and_then(|lent| match lent.as_ref().and_then(|lent| lent.fault(&shards)) {
            Some(reason) => Err(Error::Optimizer { rank, reason }),
            None => Ok(lent),
        });
        let optimizer = ranks.agree(host, LENDING, fitting)?;
        let preconditioner = match &optimizer {
            Some(optimizer) => Preconditioner::new(optimizer, &shards),
            None => Err("the host lends no optimizer".into()),
        };
        let seen = optimizer.as_ref().map(|o| (o.kind, o.learning_rate, o.steps));
        let seen = format!("{seen:?} {}", preconditioner.is_ok());
        if ranks.differs(host, LENDING, as_f64(fnv1a(seen.bytes())))? {
            let reason = "ranks lend different ones, or some none".into();
            return Err(Error::Optimizer { rank, reason });
        }
        match preconditioner {
            Ok(preconditioner) => {
                *left_out = None;
                Ok(Self { optimizer, preconditioner: Some(preconditioner) })
            }
            Err(reason) if operator.includes_hessian() => {
                let said = left_out.replace(reason.clone()).is_some_and(|last| last == reason);
                if rank == 0 && !said {
                    ::log::info!(target: "hessian_probe", "step {step}: no preconditioned spectrum: {reason}");
                }
                Ok(Self::default())
            }
            Err(reason) => Err(Error::NotYet(reason)),
        }
    }

    /// P, where the preconditioned operator is asked for.
    pub(crate) fn preconditioner(&self) -> Option<&Preconditioner> {
        self.preconditioner.as_ref()
    }

    /// The largest eigenvalue of the operator asked for against its threshold, where that is what counts for the optimizer.
    pub(crate) fn stability_at(&self, largest: f64) -> Option<Stability> {
        self.optimizer.as_ref().map(|optimizer| Stability::new(optimizer, largest))
    }

    /// How many runs it adds.
    pub(super) fn runs(&self, slq: &SlqConfig) -> usize {
        if self.preconditioner.is_some() { slq.probes } else { 0 }
    }

    /// Lanczos runs on the preconditioned operator, if there is one; the vector of its largest Ritz value is what tracking
    /// starts from. They go on from `earlier`, another process's. Collective.
    pub(super) fn measure(
        &self,
        operator: &mut FiniteDifference<'_, '_>,
        runs: &mut Runs<'_>,
        earlier: Option<Earlier>,
    ) -> Result<Option<Found>> {
        let Some(preconditioner) = &self.preconditioner else { return Ok(None) };
        let (slq, lanczos) = (runs.slq, runs.lanczos());
        let Runs { on_hessian, all, basis, w, observer, resume, best, spent_on, .. } = runs;
        let products = std::mem::take(&mut operator.products);
        let redone = operator.redone;
        operator.swap_memory(|calibration| &mut calibration.preconditioned_curvature);
        let mut found = Found { probes: Vec::new(), moved: 0, products: Vec::new(), redone: 0 };
        let mut begun = None;
        if let Some(Earlier { saved, state }) = earlier {
            operator.products = saved.products;
            operator.redone = saved.redone;
            operator.go_on_from(state.run.alpha.len());
            found.probes = saved.done;
            begun = Some((state, saved.last));
        }
        let mut mark = operator.moment();
        for index in found.probes.len()..slq.probes {
            // The run under way has its first vector; what P makes of another one is as good for everything else.
            let row = match &begun {
                Some(_) => RandomProbe::new(slq.seed, index as u64, slq.distribution)
                    .write_scaled(operator.layout(), w)
                    .map(|()| w.shallow_clone()),
                None => {
                    basis.clear();
                    draw_into(operator.layout(), slq, index as u64, basis)
                }
            };
            let row = agree(operator, STARTING, row)?;
            let mut preconditioned = Preconditioned::new(&mut *operator, preconditioner, &row)?;
            drop(row);
            found.moved = preconditioned.moved();
            let mut state = match begun.take() {
                Some((state, last)) => {
                    preconditioned.go_on_from(last);
                    state
                }
                None => {
                    preconditioned.defer(STARTING, basis.commit());
                    LanczosState::default()
                }
            };
            mark = preconditioned.inner().lap(mark, &mut spent_on.drawing);
            let run = (*on_hessian + index, *all);
            while lanczos.advance(&mut preconditioned, basis, w, &mut state)? {
                preconditioned.inner().lap(mark, &mut spent_on.lanczos);
                observer.stepped(run, &lanczos, &state, false, preconditioned.inner().gradients());
                if let Some(resume) = resume {
                    let last = preconditioned.last();
                    resume.save(preconditioned.inner_mut(), basis, &found.probes, (&state, last))?;
                }
                mark = preconditioned.inner().moment();
            }
            preconditioned.inner().lap(mark, &mut spent_on.lanczos);
            observer.stepped(run, &lanczos, &state, true, preconditioned.inner().gradients());
            mark = preconditioned.inner().moment();
            let record = spectrum(&mut preconditioned, index as u64, &state.run, basis, slq)?;
            preconditioned.inner().lap(mark, &mut spent_on.checks);
            best.offer(&mut preconditioned, &record, &state.run, basis, w);
            found.probes.push(record);
            if let Some(resume) = resume {
                resume.next_run();
            }
            mark = preconditioned.inner().moment();
        }
        operator.swap_memory(|calibration| &mut calibration.preconditioned_curvature);
        found.products = std::mem::replace(&mut operator.products, products);
        found.redone = operator.redone - redone;
        operator.redone = redone;
        Ok(Some(found))
    }

    /// λ_max of H against its threshold, for an optimizer that does not precondition.
    pub(super) fn stability(&self, lambda_max: Extreme) -> Option<Stability> {
        let optimizer = self.optimizer.as_ref().filter(|optimizer| optimizer.kind.adaptive().is_none())?;
        Some(Stability::new(optimizer, lambda_max.value))
    }

    /// The record of the runs, with the report of their products.
    pub(super) fn record(
        &self,
        found: Found,
        operator: SpectrumOf,
        report: impl FnOnce(&[ProductRecord], u64) -> HvpReport,
    ) -> Option<PreconditionedSpectrum> {
        let optimizer = self.optimizer.as_ref()?;
        let (lambda_max, lambda_min) = largest(&found.probes).zip(smallest(&found.probes))?;
        Some(PreconditionedSpectrum {
            lambda_max,
            lambda_min,
            moved: found.moved,
            stability: Stability::new(optimizer, lambda_max.value),
            probes: if operator.includes_hessian() { found.probes } else { Vec::new() },
            products: report(&found.products, found.redone),
        })
    }
}
