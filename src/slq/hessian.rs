//! Runs on the Hessian itself, outliers taken out where that is asked for.

use super::deflation::Deflation;
use super::runs::{Runs, spectrum};
use super::start::begin;
use crate::error::Result;
use crate::krylov::LanczosState;
use crate::operator::FiniteDifference;
use crate::spectrum::ProbeRecord;

/// Takes the runs that `probes` has not yet; `begun` is the one under way, of another process. Returns all of them, and
/// the outliers, whose vectors are memory. Collective.
pub(super) fn measure(
    operator: &mut FiniteDifference<'_, '_>,
    runs: &mut Runs<'_>,
    mut probes: Vec<ProbeRecord>,
    mut begun: Option<LanczosState>,
) -> Result<(Vec<ProbeRecord>, Option<Deflation>)> {
    let (step, slq, lanczos) = (runs.step, runs.slq, runs.lanczos());
    let Runs { on_hessian, all, basis, w, observer, resume, best, spent_on, .. } = runs;
    let mut deflation = None;
    let mut mark = operator.moment();
    if slq.deflate > 0 {
        begin(operator, slq, 0, basis)?;
        let run = lanczos.run(operator, basis, w)?;
        let record = spectrum(operator, 0, &run, basis, slq)?;
        deflation = Deflation::of(operator, slq, &run, &record, basis, w)?;
        operator.swap_memory(|calibration| &mut calibration.deflated_curvature);
        mark = operator.lap(mark, &mut spent_on.lanczos);
    }
    for index in probes.len()..*on_hessian {
        let mut state = match begun.take() {
            Some(state) => state,
            None => {
                begin(operator, slq, index as u64, basis)?;
                mark = operator.lap(mark, &mut spent_on.drawing);
                if let Some(deflation) = &mut deflation {
                    deflation.project(operator, basis, w)?;
                }
                LanczosState::default()
            }
        };
        let run = (index, *all);
        while match &mut deflation {
            Some(deflation) => deflation.advance(&lanczos, operator, basis, w, &mut state)?,
            None => lanczos.advance(operator, basis, w, &mut state)?,
        } {
            operator.lap(mark, &mut spent_on.lanczos);
            observer.stepped(run, &lanczos, &state, false, operator.gradients());
            if let Some(resume) = resume {
                resume.save(operator, basis, &probes, (&state, None))?;
            }
            mark = operator.moment();
        }
        operator.lap(mark, &mut spent_on.lanczos);
        observer.stepped(run, &lanczos, &state, true, operator.gradients());
        mark = operator.moment();
        let record = spectrum(operator, index as u64, &state.run, basis, slq)?;
        operator.lap(mark, &mut spent_on.checks);
        ::log::debug!(
            target: "hessian_probe::slq",
            "step {step}: probe vector {} of {}: {} Lanczos steps, Ritz values from {:.4e} to {:.4e}, {} gradients so far",
            index + 1,
            slq.probes,
            record.alpha.len(),
            record.nodes.first().copied().unwrap_or(f64::NAN),
            record.nodes.last().copied().unwrap_or(f64::NAN),
            operator.gradients(),
        );
        // Tracking follows the operator that counts for the optimizer, and needs a vector of all of it.
        if slq.operator.is_hessian() && deflation.is_none() {
            best.offer(operator, &record, &state.run, basis, w);
        }
        probes.push(match &deflation {
            Some(deflation) => deflation.complete(record),
            None => record,
        });
        if let Some(resume) = resume {
            resume.next_run();
        }
        mark = operator.moment();
    }
    if slq.deflate > 0 {
        operator.swap_memory(|calibration| &mut calibration.deflated_curvature);
    }
    Ok((probes, deflation))
}
