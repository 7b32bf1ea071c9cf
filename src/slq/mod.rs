//! One probe: stochastic Lanczos quadrature of the host's loss, from the loan of θ to the snapshot.

mod best;
mod deflation;
mod hessian;
mod preconditioned;
mod report;
mod resume;
mod runs;
mod start;

use crate::blocks::{self, Partition};
use crate::checkpoint::krylov::SavedProbe;
use crate::clock::unix_time;
use crate::config::{ProbeConfig, SpectrumOf};
use crate::cost::{Facts, Memory};
use crate::directions;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::krylov::lanczos::agree;
use crate::memory;
use crate::operator::finite_difference::FiniteDifference;
use crate::operator::{Calibration, Learned, Start};
use crate::progress::Observer;
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;
use crate::spectrum::{Cost, SNAPSHOT_VERSION, Snapshot, Statistics, regime};
use best::Best;
use deflation::Deflation;
pub(crate) use preconditioned::Lent;
use report::{SpentOn, cost, timed};
pub(crate) use report::{predicted_errors, report};
use resume::{Restored, Resume};
use runs::Runs;
pub(crate) use runs::spectrum;
use start::{Storage, draw, torch};
use std::time::Instant;

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
    let Learned { calibration, top, left_out } = learned;
    let Watch { interrupter, observer } = watch;
    let started = Instant::now();
    let mut ranks = Ranks::new(host);
    let tokens = host.probe_tokens();
    let slq = &config.slq;
    let lent = Lent::of(host, slq.operator, &mut ranks, left_out, step)?;
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
    let restored = resume.as_mut().map(|resume| resume.restore(&mut operator));
    let Restored { done, begun, preconditioned: earlier } = restored.unwrap_or_default();
    let on_hessian = if slq.operator.includes_hessian() { slq.probes } else { 0 };
    let all = on_hessian + lent.runs(slq);
    let best = Best::new(config.track.every.is_some());
    let mut runs = Runs { step, slq, on_hessian, all, basis, w, observer, resume, best, spent_on };
    let (mut probes, deflation) = hessian::measure(&mut operator, &mut runs, done, begun)?;
    let (loss, gradient_norm, parameter_norm) =
        (operator.loss, operator.gradient_norm, operator.parameter_norm);
    let (mut products, mut redone) = (std::mem::take(&mut operator.products), operator.redone);
    let calibration_gradients = operator.calibration_gradients;
    if let Some(resume) = &mut runs.resume {
        resume.complete(&probes, &products, redone);
    }
    let preconditioned = lent.measure(&mut operator, &mut runs, earlier)?;
    let Runs { mut basis, mut w, observer, resume, best, mut spent_on, .. } = runs;
    let directions = match config.directions.is_on() {
        true => {
            basis.clear();
            let v = basis.next_row();
            let v = agree(&mut operator, STARTING, v)?;
            Some(directions::on_loan(&mut operator, config.directions, &update, &v, &mut w)?)
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
        let mark = operator.moment();
        block_diagonal = Some(blocks::on_loan(&mut operator, partition, config, &mut w, observer)?);
        operator.lap(mark, &mut spent_on.blocks);
    }
    let peak = memory::peak();
    let peaks = vec![peak.unwrap_or(0) as f64, f64::from(u8::from(peak.is_none()))];
    let (mut spent, peaks) = operator.finish_with(COUNTING, peaks)?;
    let tracked = best.vectors(top);
    best.hand_on(top);
    spent.gradients += resume.map_or(0, Resume::finish);
    let more = u64::from(preconditioned.is_some()) + u64::from(config.directions.update) + tracked;
    spent.vector_bytes += more * layout.vector_bytes();
    // Where one rank does not know its own, the sum is not known.
    let peak_memory_bytes = (peaks[1] == 0.0).then_some(peaks[0] as u64);
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
        unix_time: unix_time(),
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
