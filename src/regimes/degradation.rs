//! What errors of products make of α, β, Ritz values, moments and orthogonality.

use super::reference::start;
use super::{Compared, ReferenceRecord, Regime, RegimesConfig, RunRecord, RunSummary, Watch};
use crate::config::{Difference, HvpConfig, Reorthogonalize};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::krylov::lanczos::orthogonality_defect;
use crate::krylov::{Basis, Lanczos, LanczosRun, LanczosState, Operator};
use crate::operator::{Calibration, FiniteDifference, Start};
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;
use crate::sharded::vector::ShardedVector;
use crate::slq::predicted_errors;
use crate::spectrum::quadrature;
use std::time::Instant;
use tch::{TchError, Tensor};

const RUNNING: &str = "a Lanczos run against the reference's";

/// Adds to `regime`, which a [`sweep`](super::sweep) of the same host made, a Lanczos run for each of
/// [`RegimesConfig::runs`], from the reference's start and of as many steps, compared with the reference's.
/// Collective; the host is as before on every way out. The noise is not measured again.
///
/// # Errors
/// When a gradient fails.
pub fn degrade(
    host: &mut dyn Host,
    regime: &mut Regime,
    reference: &ReferenceRecord,
    config: &RegimesConfig,
    watch: &mut Watch<'_>,
) -> Result<()> {
    config.validate_for(host)?;
    let started = Instant::now();
    let mut ranks = Ranks::new(host);
    let layout = Layout::new(host, None)?;
    let steps = reference.run.alpha.len();
    let room = || -> Result<(Basis, Tensor), TchError> {
        let basis = Basis::stored_as(&layout, Reorthogonalize::Full, steps, config.basis)?;
        start(&layout, config.seed, &basis.next_row()?)?;
        Ok((basis, ShardedVector::zeros(&layout)?.into_tensor()))
    };
    let room = room().map_err(|source| Error::Torch { rank: ranks.rank(), during: RUNNING, source });
    let (mut basis, mut w) = ranks.agree(host, RUNNING, room)?;
    let mut calibration = Calibration {
        noise: Some(regime.noise.gradient),
        component_noise: regime.noise.component,
        ..Calibration::default()
    };
    let vector =
        basis.next_row().map_err(|source| Error::Torch { rank: ranks.rank(), during: RUNNING, source });
    let vector = ranks.agree(host, RUNNING, vector)?;
    // Exact products alone would need no noise, of which the others are told here.
    let by_differences = HvpConfig { difference: Difference::Central, ..config.runs[0].clone() };
    let (w, before) = (&mut w, regime.gradients);
    let mut operator = FiniteDifference::new(
        host,
        &layout,
        &by_differences,
        &mut calibration,
        watch.interrupter,
        Start { vector: &vector, spare: None },
        w,
    )?;
    for hvp in &config.runs {
        operator.set_config(hvp);
        operator.forget();
        basis.clear();
        let drawn =
            basis.next_row().and_then(|row| start(&layout, config.seed, &row)).and_then(|()| basis.commit());
        operator.defer(RUNNING, drawn);
        let redone = operator.redone;
        let (_, run) = lanczos_run(&mut operator, steps, &mut basis, w, watch)?;
        regime.runs.push(compared(hvp.clone(), run, operator.redone - redone, &reference.run));
    }
    regime.gradients = before + operator.finish()?.gradients;
    regime.seconds += started.elapsed().as_secs_f64();
    Ok(())
}

/// A run from the one vector in the basis.
pub(super) fn lanczos_run(
    operator: &mut FiniteDifference<'_, '_>,
    steps: usize,
    basis: &mut Basis,
    w: &mut Tensor,
    watch: &mut Watch<'_>,
) -> Result<(LanczosRun, RunSummary)> {
    let (gradients, products) = (operator.gradients(), operator.products.len());
    let lanczos = Lanczos { steps, reorthogonalize: Reorthogonalize::Full };
    let mut state = LanczosState::default();
    while lanczos.advance(operator, basis, w, &mut state)? {
        (watch.gradients)(operator.gradients());
    }
    (watch.gradients)(operator.gradients());
    let gradients = operator.gradients() - gradients;
    let orthogonality_defect = orthogonality_defect(operator, basis)?;
    let run = state.run;
    let spectrum = quadrature(0, &run).map_err(|_| Error::NonFinite {
        rank: operator.rank(),
        what: "the tridiagonal matrix T",
        during: RUNNING,
    })?;
    let moment = |power| spectrum.nodes.iter().zip(&spectrum.weights).map(|(x, t)| t * x.powi(power)).sum();
    let errors = predicted_errors(&operator.products[products..]);
    let summary = RunSummary {
        alpha: run.alpha.clone(),
        beta: run.beta.clone(),
        lambda_max: spectrum.nodes.last().copied().unwrap_or(0.0),
        lambda_min: spectrum.nodes.first().copied().unwrap_or(0.0),
        first_moment: moment(1),
        second_moment: moment(2),
        orthogonality_defect,
        breakdown: run.breakdown,
        predicted_error: errors.largest(),
        predicted_error_median: errors.median(),
        gradients,
    };
    Ok((run, summary))
}

fn compared(hvp: HvpConfig, run: RunSummary, redone: u64, reference: &RunSummary) -> RunRecord {
    let largest = |values: &[f64]| values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let scale = largest(&reference.alpha).max(largest(&reference.beta));
    let deviations = |own: &[f64], other: &[f64]| -> Vec<f64> {
        let off = own.iter().zip(other).map(|(a, b)| (a - b).abs());
        off.map(|off| if scale > 0.0 { off / scale } else { 0.0 }).collect()
    };
    let extreme = reference.lambda_max.abs().max(reference.lambda_min.abs());
    let moment = |own, other| Compared::new(own, other, other);
    RunRecord {
        alpha_deviation: deviations(&run.alpha, &reference.alpha),
        beta_deviation: deviations(&run.beta, &reference.beta),
        lambda_max: Compared::new(run.lambda_max, reference.lambda_max, extreme),
        lambda_min: Compared::new(run.lambda_min, reference.lambda_min, extreme),
        first_moment: moment(run.first_moment, reference.first_moment),
        second_moment: moment(run.second_moment, reference.second_moment),
        hvp,
        run,
        redone,
    }
}
