//! A short Lanczos run from the last top vector.

use super::record::Tracked;
use crate::clock::unix_time;
use crate::config::{Distribution, ProbeConfig, Reorthogonalize, SpectrumOf};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::krylov::ritz::RitzVectors;
use crate::krylov::{Basis, Lanczos, Operator};
use crate::operator::{FiniteDifference, Learned, Preconditioned, Start, loan_bytes};
use crate::optimizer::Preconditioner;
use crate::sharded::layout::Layout;
use crate::sharded::random::RandomProbe;
use crate::sharded::ranks::Ranks;
use crate::sharded::sums;
use crate::sharded::vector::ShardedVector;
use crate::slq::Lent;
use crate::spectrum::{largest, quadrature};
use std::time::Instant;
use tch::{TchError, Tensor};

const TRACKING: &str = "tracking the largest eigenvalue";

/// Measures λ_max from the vector that is known, and puts the new one in its place. Collective; parameters are
/// restored whatever happens.
pub(crate) fn track(
    host: &mut dyn Host,
    layout: &Layout,
    config: &ProbeConfig,
    learned: &mut Learned,
    interrupter: &Interrupter,
    step: u64,
) -> Result<Tracked> {
    let started = Instant::now();
    let mut ranks = Ranks::new(host);
    let rank = ranks.rank();
    let tracked = tracked_operator(config);
    let Learned { calibration, top, left_out } = learned;
    let lent = Lent::of(host, tracked, &mut ranks, left_out, step)?;
    let lanczos = Lanczos { steps: config.track.products, reorthogonalize: Reorthogonalize::Full };
    let prepared = prepare(layout, config, &lanczos, top.as_ref());
    let prepared = prepared.map_err(|source| Error::Torch { rank, during: TRACKING, source });
    let (mut basis, first, random, mut w) = ranks.agree(host, TRACKING, prepared)?;
    // Noise is measured along a random vector, as for a full probe.
    let start = Start { vector: &random, spare: None };
    let mut operator =
        FiniteDifference::new(host, layout, &config.hvp, calibration, interrupter, start, &mut w)?;
    drop(random);
    operator.swap_memory(|calibration| &mut calibration.tracked_curvature);
    let run = match lent.preconditioner() {
        Some(preconditioner) => {
            // The first row, restricted to the parameters that are moved.
            let mut preconditioned = Preconditioned::new(&mut operator, preconditioner, &first)?;
            lanczos.run(&mut preconditioned, &mut basis, &mut w)?
        }
        None => lanczos.run(&mut operator, &mut basis, &mut w)?,
    };
    drop(first);
    let found = RitzVectors::new(&run).and_then(|ritz| Ok((ritz, quadrature(0, &run)?)));
    let found =
        found.map_err(|_| Error::NonFinite { rank, what: "the tridiagonal matrix T", during: TRACKING });
    let (ritz, record) = found?;
    let lambda_max = largest(&[record]).ok_or(Error::NonFinite {
        rank,
        what: "the largest Ritz value",
        during: TRACKING,
    })?;
    operator.defer(TRACKING, ritz.write(ritz.top(), &basis, &mut w));
    // In the coordinates that the vector is in: of the preconditioned operator, P^{1/2}θ's.
    let gradient = operator.gradient_at_origin();
    let local = gradient_in(layout, lent.preconditioner(), gradient).and_then(|(gradient, squared)| {
        let along = sums::inner_product(layout, &w, &gradient)?;
        Ok(vec![sums::norm_squared(layout, &w)?, along, squared])
    });
    let sums = operator.sum(TRACKING, 3, local)?;
    let norms = (sums[0] * sums[2]).sqrt();
    let (loss, gradient_norm) = (operator.loss, operator.gradient_norm);
    operator.swap_memory(|calibration| &mut calibration.tracked_curvature);
    let spent = operator.finish()?;
    let overlap = top.is_some().then(|| ritz.components(ritz.top())[0].abs());
    *top = Some(w);
    Ok(Tracked {
        step,
        unix_time: unix_time(),
        loss,
        gradient_norm,
        stability: lent.stability_at(lambda_max.value),
        operator: tracked,
        lambda_max,
        overlap,
        gradient_overlap: (norms > 0.0).then(|| (sums[1] / norms).abs()),
        gradients: spent.gradients,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// ∇L, or P^{-1/2}∇L, and this rank's part of its norm squared.
fn gradient_in(
    layout: &Layout,
    preconditioner: Option<&Preconditioner>,
    gradient: Tensor,
) -> Result<(Tensor, f64), TchError> {
    let Some(preconditioner) = preconditioner else {
        let squared = sums::norm_squared(layout, &gradient)?;
        return Ok((gradient, squared));
    };
    let scaled = ShardedVector::zeros(layout)?.into_tensor();
    let [squared, _] = preconditioner.apply(layout, &gradient, &scaled)?;
    Ok((scaled, squared))
}

/// The bytes that it takes on this rank: θ₀, live gradients, g(θ₀), the kept vector, one of work and the basis.
pub(crate) fn bytes(host: &dyn Host, layout: &Layout, config: &ProbeConfig) -> u64 {
    let scaled = u64::from(!tracked_operator(config).is_hessian());
    loan_bytes(host, config.hvp.precision)
        + (3 + scaled + config.track.products as u64) * layout.vector_bytes()
}

/// The operator whose largest eigenvalue counts for the optimizer, where it is asked for.
fn tracked_operator(config: &ProbeConfig) -> SpectrumOf {
    if config.slq.operator.is_hessian() { SpectrumOf::Hessian } else { SpectrumOf::Preconditioned }
}

/// A basis with the start vector, which comes with it, a random vector, and a vector of work.
fn prepare(
    layout: &Layout,
    config: &ProbeConfig,
    lanczos: &Lanczos,
    top: Option<&Tensor>,
) -> Result<(Basis, Tensor, Tensor, Tensor), TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut basis = Basis::new(layout, lanczos.reorthogonalize, lanczos.steps)?;
    let mut first = basis.next_row()?;
    let random = RandomProbe::new(config.slq.seed, 0, Distribution::Rademacher);
    match top {
        Some(top) => first.f_copy_(top)?,
        None => random.write_scaled(layout, &first)?,
    }
    basis.commit()?;
    // The second row is free until the first product is complete.
    let second = basis.next_row()?;
    random.write_scaled(layout, &second)?;
    Ok((basis, first, second, ShardedVector::zeros(layout)?.into_tensor()))
}
