//! The true error of products over steps of many orders of magnitude, and what automatic choices make of it.

use super::direction::{Direction, DirectionKind, distance, same_sharding};
use super::reference::{LOOK_FOR_BEST, Reference, start};
use super::{
    Best, Choice, DirectionRecord, NoiseRecord, REGIME_VERSION, Regime, RegimesConfig, SweepPoint, SweepRow,
    Watch,
};
use crate::config::{Difference, HvpConfig, StepSize};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::krylov::Operator;
use crate::operator::step::Curvature;
use crate::operator::{Calibration, FiniteDifference, Scheme, Start};
use crate::sharded::layout::Layout;
use crate::sharded::ranks::Ranks;
use crate::sharded::vector::ShardedVector;
use std::time::Instant;
use tch::Tensor;

const SWEEPING: &str = "sweeping steps";

/// Measures the noise of `host`'s gradient and, along each vector of `reference`, products over a sweep of steps and
/// those of automatic choices. Collective; the host is as before on every way out. The record's runs are empty:
/// [`degrade`](super::degrade) adds them.
///
/// # Errors
/// [`Error::Layout`] where the reference is that of another model or sharding; when a gradient fails. A step that
/// moves no parameter, or at which the gradient is not finite, is no error but a row without products.
pub fn sweep(
    host: &mut dyn Host,
    name: &str,
    reference: &Reference,
    config: &RegimesConfig,
    watch: &mut Watch<'_>,
) -> Result<Regime> {
    config.validate_for(host)?;
    let started = Instant::now();
    let mut ranks = Ranks::new(host);
    let layout = Layout::new(host, None)?;
    let same = same_sharding(ranks.rank(), &layout, &reference.directions);
    ranks.agree(host, SWEEPING, same)?;
    let configured = &config.runs[0];
    let best = HvpConfig {
        difference: Difference::Central,
        step_size: StepSize::Auto,
        max_relative_error: LOOK_FOR_BEST,
        ..configured.clone()
    };
    let room = || -> Result<[Tensor; 3], tch::TchError> {
        let vector = || ShardedVector::zeros(&layout).map(ShardedVector::into_tensor);
        let random = vector()?;
        start(&layout, config.seed, &random)?;
        Ok([random, vector()?, vector()?])
    };
    let room = room().map_err(|source| Error::Torch { rank: ranks.rank(), during: SWEEPING, source });
    let [random, spare, mut w] = ranks.agree(host, SWEEPING, room)?;
    let mut calibration = Calibration::default();
    let start = Start { vector: &random, spare: Some(&spare) };
    let w = &mut w;
    let mut operator =
        FiniteDifference::new(host, &layout, &best, &mut calibration, watch.interrupter, start, w)?;
    drop((random, spare));
    let learned = operator.calibration();
    let noise = NoiseRecord {
        gradient: operator.noise,
        component: learned.component_noise,
        repeats: learned.gradient_repeats,
        repeat_difference: learned.repeat_difference,
        asymmetry: learned.asymmetry,
    };
    let gradient_error = gradient_error(&mut operator, reference)?;
    let mut directions = Vec::with_capacity(reference.directions.len());
    let grid = config.grid(reference.record.parameter_norm, operator.roundoff());
    for direction in &reference.directions {
        let v = direction.vector(&mut operator)?;
        let mut rows = Vec::with_capacity(grid.len());
        for &h in &grid {
            rows.push(row(&mut operator, direction, &v, h, w)?);
            (watch.gradients)(operator.gradients());
        }
        let best_of_sweep = best_of(&rows);
        let automatic = choose(&mut operator, direction, &v, w, best_of_sweep)?;
        operator.set_config(configured);
        let as_configured = choose(&mut operator, direction, &v, w, best_of_sweep)?;
        operator.set_config(&best);
        (watch.gradients)(operator.gradients());
        directions.push(DirectionRecord {
            direction: direction.kind,
            norm: direction.norm,
            curvature: direction.curvature,
            reference_error: direction.error,
            rows,
            best: best_of_sweep,
            automatic,
            configured: as_configured,
        });
    }
    let (loss, gradient_norm, parameter_norm) =
        (operator.loss, operator.gradient_norm, operator.parameter_norm);
    let unit_roundoff = operator.roundoff();
    let gradients = operator.finish()?.gradients;
    Ok(Regime {
        version: REGIME_VERSION,
        name: name.to_owned(),
        parameters: layout.parameters(),
        unit_roundoff,
        loss,
        gradient_norm,
        parameter_norm,
        gradient_error,
        noise,
        directions,
        runs: Vec::new(),
        reference: reference.record.clone(),
        gradients,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// ‖g − g_reference‖ / ‖g_reference‖.
fn gradient_error(operator: &mut FiniteDifference<'_, '_>, reference: &Reference) -> Result<Option<f64>> {
    let norm = reference.record.gradient_norm;
    let Some(gradient) =
        reference.directions.iter().find(|direction| direction.kind == DirectionKind::Gradient)
    else {
        return Ok(None);
    };
    let own = operator.gradient_at_origin();
    // The reference's is its unit vector times its norm.
    let off = distance(operator, &own, norm.recip(), &gradient.vector)?;
    Ok(Some(off))
}

/// Both differences with the step h.
fn row(
    operator: &mut FiniteDifference<'_, '_>,
    direction: &Direction,
    v: &Tensor,
    h: f64,
    w: &mut Tensor,
) -> Result<SweepRow> {
    let mut row = SweepRow { step: h, central: None, forward: None, failed: None };
    let measured =
        point(operator, direction, v, w, Scheme::Central, h, None).and_then(|(point, curvature)| {
            row.central = Some(point);
            let (point, _) = point_forward(operator, direction, v, w, h, curvature)?;
            row.forward = Some(point);
            Ok(())
        });
    match measured {
        Ok(()) => Ok(row),
        Err(error @ (Error::StepTooSmall { .. } | Error::NonFinite { .. })) => {
            row.failed = Some(error.to_string());
            Ok(row)
        }
        // On another rank: both errors are of sums, which all ranks see, but for a loss that is not finite.
        Err(error) => Err(error),
    }
}

fn point_forward(
    operator: &mut FiniteDifference<'_, '_>,
    direction: &Direction,
    v: &Tensor,
    w: &mut Tensor,
    h: f64,
    curvature: Curvature,
) -> Result<(SweepPoint, Curvature)> {
    point(operator, direction, v, w, Scheme::Forward, h, Some(curvature))
}

fn point(
    operator: &mut FiniteDifference<'_, '_>,
    direction: &Direction,
    v: &Tensor,
    w: &mut Tensor,
    scheme: Scheme,
    h: f64,
    known: Option<Curvature>,
) -> Result<(SweepPoint, Curvature)> {
    let found = operator.at_step(v, w, scheme, h, known)?;
    let point = SweepPoint {
        error: direction.error_of(operator, w, found.product.scale)?,
        predicted: found.record.error,
        realised: found.realised,
        rounding: found.record.rounding,
        parity: found.record.parity,
        curvature: found.product.alpha,
    };
    Ok((point, found.curvature))
}

fn best_of(rows: &[SweepRow]) -> Option<Best> {
    let central = rows.iter().filter_map(|row| Some(Best { step: row.step, error: row.central?.error }));
    central.min_by(|a, b| a.error.total_cmp(&b.error))
}

/// A product by the operator's own choice, as if nothing were known of the curvature.
fn choose(
    operator: &mut FiniteDifference<'_, '_>,
    direction: &Direction,
    v: &Tensor,
    w: &mut Tensor,
    best: Option<Best>,
) -> Result<Choice> {
    operator.forget();
    let before = operator.gradients();
    let product = operator.apply(0, v, None, w)?;
    let error = direction.error_of(operator, w, product.scale)?;
    let record = operator.products.last().copied();
    Ok(Choice {
        scheme: record.map_or(Scheme::Central, |record| record.scheme),
        step: record.map_or(0.0, |record| record.step),
        error,
        predicted: record.map_or(0.0, |record| record.error),
        gradients: operator.gradients() - before,
        ratio: best.filter(|best| best.error > 0.0).map(|best| error / best.error),
    })
}
