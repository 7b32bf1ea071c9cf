//! One probe: stochastic Lanczos quadrature of the host's loss, from the loan of θ to the snapshot.

mod deflation;
mod preconditioned;
mod report;
mod resume;
mod start;

use crate::blocks::{self, Partition};
use crate::checkpoint::krylov::SavedProbe;
use crate::config::{ProbeConfig, Reorthogonalize, SlqConfig, SpectrumOf};
use crate::cost::{Facts, Memory};
use crate::directions;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::krylov::lanczos::{Operator, agree, orthogonality_defect};
use crate::krylov::ritz::RitzVectors;
use crate::krylov::{Basis, Lanczos, LanczosRun, LanczosState};
use crate::memory;
use crate::operator::finite_difference::FiniteDifference;
use crate::operator::{Calibration, Learned, Start};
use crate::progress::Observer;
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;
use crate::sharded::vector::copied;
use crate::spectrum::{
    Cost, ProbeRecord, SNAPSHOT_VERSION, Snapshot, Statistics, ghosts, quadrature, regime,
};
use deflation::Deflation;
pub(crate) use preconditioned::Lent;
pub(crate) use report::report;
use report::{SpentOn, cost, timed};
use resume::{Restored, Resume};
use start::{Storage, begin, draw, torch};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tch::Tensor;

const STARTING: &str = "drawing a probe vector";
const COUNTING: &str = "adding up what a probe cost";

/// Who may end a probe, and who is told how far it is.
pub(crate) struct Watch<'a> {
    pub(crate) interrupter: &'a Interrupter,
    pub(crate) observer: &'a mut Observer,
}

/// Probes the host's Hessian. Collective; parameters, random state and live gradients are restored
/// whatever happens. With `partition`, its blocks are measured, too.
pub(crate) fn snapshot(
    host: &mut dyn Host,
    layout: &Layout,
    config: &ProbeConfig,
    learned: &mut Learned,
    watch: Watch<'_>,
    partition: Option<&Partition>,
    step: u64,
) -> Result<Snapshot> {
    let Learned { calibration, top } = learned;
    let Watch { interrupter, observer } = watch;
    let started = Instant::now();
    let mut ranks = Ranks::new(host);
    let tokens = host.probe_tokens();
    let slq = &config.slq;
    let lent = Lent::of(host, slq.operator, &mut ranks, step)?;
    let update = directions::Lent::of(host, config.directions.update, &mut ranks)?;
    let mut spent_on = SpentOn::default();
    let storage = timed(&mut spent_on.saving, || Storage::new(layout, slq));
    let storage = storage.map_err(|source| torch(&ranks, source));
    let Storage { mut basis, mut w } = ranks.agree(host, STARTING, storage)?;
    let mut resume = Resume::new(host, layout, config, &lent, step, &mut ranks, &mut basis)?;
    let before = calibration.clone();
    let (mut operator, direction, next) = loop {
        let saved = resume.as_ref().and_then(Resume::saved);
        *calibration = match saved {
            // As it was before the probe that is resumed began to count.
            Some(SavedProbe { calibration: saved, .. }) => {
                Calibration { age: saved.age.saturating_sub(1), ..saved.clone() }
            }
            None => before.clone(),
        };
        if saved.is_none() {
            let drawn = timed(&mut spent_on.drawing, || draw(layout, slq, 0, &mut basis));
            let drawn = drawn.map_err(|source| torch(&ranks, source));
            ranks.agree(host, STARTING, drawn)?;
        }
        // Along the first vector; any will do where the noise is known.
        let direction = basis.vector(basis.oldest()).map_err(|source| torch(&ranks, source))?;
        // Nothing is measured anew in a probe that is resumed, whose rows are taken.
        let next = basis.next_row().map_err(|source| torch(&ranks, source))?;
        let start = Start { vector: &direction, spare: saved.is_none().then_some(&next) };
        let mut operator =
            FiniteDifference::new(host, layout, &config.hvp, calibration, interrupter, start, &mut w)?;
        let refused = match &mut resume {
            Some(resume) => resume.refuses(&mut operator)?,
            None => false,
        };
        if !refused {
            break (operator, direction, next);
        }
        // What it says of the noise is of other data, too.
        operator.finish()?;
    };
    let w = &mut w;
    let lanczos = Lanczos { steps: slq.steps, reorthogonalize: slq.reorthogonalize };
    let restored = resume.as_mut().map(|resume| resume.restore(&mut operator));
    let Restored { done: mut probes, mut begun, preconditioned: earlier } = restored.unwrap_or_default();
    let mut deflation = None;
    let mut best = f64::NEG_INFINITY;
    let mut mark = operator.moment();
    if slq.deflate > 0 {
        begin(&mut operator, slq, 0, &mut basis)?;
        let run = lanczos.run(&mut operator, &mut basis, w)?;
        let record = spectrum(&mut operator, 0, &run, &basis, slq)?;
        deflation = Deflation::of(&mut operator, slq, &run, &record, &basis, w)?;
        operator.swap_memory(|calibration| &mut calibration.deflated_curvature);
        mark = operator.lap(mark, &mut spent_on.lanczos);
    }
    let planned = if slq.operator.includes_hessian() { slq.probes } else { 0 };
    let runs = planned + lent.runs(slq);
    for index in probes.len() as u64..planned as u64 {
        let mut state = match begun.take() {
            Some(state) => state,
            None => {
                begin(&mut operator, slq, index, &mut basis)?;
                mark = operator.lap(mark, &mut spent_on.drawing);
                if let Some(deflation) = &mut deflation {
                    deflation.project(&mut operator, &mut basis, w)?;
                }
                LanczosState::default()
            }
        };
        let run = (index as usize, runs);
        while match &mut deflation {
            Some(deflation) => deflation.advance(&lanczos, &mut operator, &mut basis, w, &mut state)?,
            None => lanczos.advance(&mut operator, &mut basis, w, &mut state)?,
        } {
            operator.lap(mark, &mut spent_on.lanczos);
            observer.stepped(run, &lanczos, &state, false, operator.gradients());
            if let Some(resume) = &mut resume {
                resume.save(&mut operator, &basis, &probes, (&state, None))?;
            }
            mark = operator.moment();
        }
        mark = operator.lap(mark, &mut spent_on.lanczos);
        observer.stepped(run, &lanczos, &state, true, operator.gradients());
        let record = spectrum(&mut operator, index, &state.run, &basis, slq)?;
        operator.lap(mark, &mut spent_on.checks);
        ::log::debug!(
            "step {step}: probe vector {} of {}: {} Lanczos steps, Ritz values from {:.4e} to {:.4e}, {} gradients so far",
            index + 1,
            slq.probes,
            record.alpha.len(),
            record.nodes.first().copied().unwrap_or(f64::NAN),
            record.nodes.last().copied().unwrap_or(f64::NAN),
            operator.gradients(),
        );
        let highest = record.nodes.last().copied().unwrap_or(f64::NEG_INFINITY);
        let tracked = config.track.every.is_some() && slq.operator.is_hessian();
        if tracked && deflation.is_none() && highest > best {
            best = highest;
            keep_top(&mut operator, &state.run, &basis, w, top)?;
        }
        probes.push(match &deflation {
            Some(deflation) => deflation.complete(record),
            None => record,
        });
        if let Some(resume) = &mut resume {
            resume.next_run();
        }
        mark = operator.moment();
    }
    let (loss, gradient_norm, parameter_norm) =
        (operator.loss, operator.gradient_norm, operator.parameter_norm);
    let (mut products, mut redone) = (std::mem::take(&mut operator.products), operator.redone);
    let calibration_gradients = operator.calibration_gradients;
    if slq.deflate > 0 {
        operator.swap_memory(|calibration| &mut calibration.deflated_curvature);
    }
    let told = (planned, runs);
    let kept = config.track.every.is_some().then_some(top);
    if let Some(resume) = &mut resume {
        resume.complete(&probes, &products, redone);
    }
    let earlier = earlier.zip(begun);
    mark = operator.moment();
    let preconditioned = lent.measure(
        &mut operator,
        slq,
        (&mut basis, &mut *w),
        told,
        observer,
        (kept, resume.as_mut(), earlier),
    )?;
    operator.lap(mark, &mut spent_on.lanczos);
    let directions = match config.directions.is_on() {
        true => {
            basis.clear();
            let v = basis.next_row();
            let v = agree(&mut operator, STARTING, v)?;
            Some(directions::on_loan(&mut operator, config.directions, &update, &v, w)?)
        }
        false => None,
    };
    drop(update);
    let mut basis_bytes = basis.bytes() + deflation.as_ref().map_or(0, Deflation::bytes);
    let mut block_diagonal = None;
    if let Some(partition) = partition {
        // Its memory, of which `direction` and `next` are parts, is that of the blocks now.
        drop((basis, direction, next, deflation));
        basis_bytes = basis_bytes.max(blocks::bytes(layout, partition, config));
        mark = operator.moment();
        block_diagonal = Some(blocks::on_loan(&mut operator, partition, config, w, observer)?);
        operator.lap(mark, &mut spent_on.blocks);
    }
    let gradients_before = resume.map_or(0, Resume::finish);
    let mut spent = operator.finish()?;
    spent.gradients += gradients_before;
    let more = u64::from(preconditioned.is_some()) + u64::from(config.directions.update);
    spent.vector_bytes += more * layout.vector_bytes();
    let peak_memory_bytes = peak_memory(host, &mut ranks)?;
    let mut order = layout.parameters();
    if let (Some(found), false) = (&preconditioned, slq.operator.includes_hessian()) {
        // The snapshot's own spectrum is that of the preconditioned operator.
        (products, redone) = (found.products.clone(), found.redone);
        (probes, order) = (found.probes.clone(), found.moved);
    }
    let statistics = Statistics::new(&probes, order).ok_or(Error::NonFinite {
        rank: ranks.rank(),
        what: "the spectrum",
        during: "its statistics",
    })?;
    let hvp = report(&products, redone, spent.noise, calibration);
    let seconds = started.elapsed().as_secs_f64();
    let parts = spent_on.parts(&spent, &ranks, seconds);
    let cost = Cost {
        calibration_gradients,
        basis_bytes,
        peak_memory_bytes,
        parts,
        ..cost(&spent, &ranks, seconds)
    };
    let noise = spent.noise;
    let stability = lent.stability(statistics.lambda_max);
    let preconditioned = preconditioned.and_then(|found| {
        lent.record(found, slq.operator, |products, redone| report(products, redone, noise, calibration))
    });
    let mut warnings = regime::warnings(&statistics, &probes, &hvp, gradient_norm);
    // Of the snapshot's own spectrum that is said already.
    if let Some(seen) = preconditioned.as_ref().filter(|_| slq.operator.includes_hessian()) {
        warnings.extend(regime::doubtful("preconditioned λ_max, and so the margin,", seen.lambda_max));
    }
    Ok(Snapshot {
        version: SNAPSHOT_VERSION,
        step,
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        world_size: ranks.world_size(),
        parameters: layout.parameters(),
        tokens,
        seed: slq.seed,
        loss,
        gradient_norm,
        parameter_norm,
        lambda_max: statistics.lambda_max,
        lambda_min: statistics.lambda_min,
        trace: statistics.trace,
        mean_eigenvalue: statistics.mean_eigenvalue,
        frobenius_norm: statistics.frobenius_norm,
        negative_share: statistics.negative_share,
        negative_share_resolved: statistics.negative_share_resolved,
        effective_rank: statistics.effective_rank,
        stable_rank: statistics.stable_rank,
        spectral_entropy: statistics.spectral_entropy,
        unresolved: statistics.unresolved,
        block_diagonal,
        operator: if slq.operator.includes_hessian() { SpectrumOf::Hessian } else { slq.operator },
        stability,
        preconditioned,
        directions,
        warnings,
        probes,
        hvp,
        cost,
    })
}

/// The peaks of all ranks' processes; `None` where one of them does not know its own. Collective.
fn peak_memory(host: &dyn Host, ranks: &mut Ranks) -> Result<Option<u64>> {
    let peak = memory::peak();
    let local = vec![peak.unwrap_or(0) as f64, f64::from(u8::from(peak.is_none()))];
    let sums = ranks.sum(host, COUNTING, local.len(), Ok(local))?;
    Ok((sums[1] == 0.0).then_some(sums[0] as u64))
}

/// Keeps the Ritz vector of a run's largest value, where all vectors of the run are stored.
fn keep_top(
    operator: &mut dyn Operator,
    run: &LanczosRun,
    basis: &Basis,
    w: &mut Tensor,
    top: &mut Option<Tensor>,
) -> Result<()> {
    if basis.stored() < run.alpha.len() {
        return Ok(());
    }
    // T was decomposed before, without an error.
    let Ok(ritz) = RitzVectors::new(run) else { return Ok(()) };
    let kept = ritz.write(ritz.top(), basis, w).and_then(|()| copied(w));
    match kept {
        Ok(vector) => *top = Some(vector),
        Err(error) => operator.defer(STARTING, Err(error)),
    }
    Ok(())
}

/// The bytes that a probe takes on this rank, by the [law](crate::cost::Memory); in place of the basis what the blocks of
/// `partition` take, where that is more.
pub(crate) fn bytes(
    host: &dyn Host,
    layout: &Layout,
    config: &ProbeConfig,
    partition: Option<&Partition>,
) -> u64 {
    let blocks = partition.map_or(0, |partition| blocks::bytes(layout, partition, config));
    // What overflows is more than any budget.
    Memory::new(&Facts::of(host, layout, config), config, blocks).map_or(u64::MAX, |memory| memory.total())
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
    let keeps_orthogonal = matches!(slq.reorthogonalize, Reorthogonalize::Full | Reorthogonalize::Partial);
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
