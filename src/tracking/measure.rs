//! A short Lanczos run from the last top vector.

use super::record::Tracked;
use crate::config::{Distribution, ProbeConfig, Reorthogonalize};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::krylov::tridiagonal::eigen;
use crate::krylov::{Basis, Lanczos, Operator};
use crate::operator::{FiniteDifference, Learned, Start};
use crate::sharded::layout::Layout;
use crate::sharded::random::RandomProbe;
use crate::sharded::ranks::Ranks;
use crate::sharded::sums::Sums;
use crate::sharded::vector::{ShardedVector, counted_ranges};
use crate::spectrum::{Extreme, PREDICTION_FACTOR};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tch::{Kind, TchError, Tensor};

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
    let lanczos = Lanczos { steps: config.track.products, reorthogonalize: Reorthogonalize::Full };
    let Learned { calibration, top } = learned;
    let prepared = prepare(layout, config, &lanczos, top.as_ref());
    let prepared = prepared.map_err(|source| Error::Torch { rank, during: TRACKING, source });
    let (mut basis, random, mut w) = ranks.agree(host, TRACKING, prepared)?;
    // Noise is measured along a random vector, as for a full probe.
    let start = Start { vector: &random, spare: None };
    let mut operator =
        FiniteDifference::new(host, layout, &config.hvp, calibration, interrupter, start, &mut w)?;
    drop(random);
    operator.swap_tracked();
    let run = lanczos.run(&mut operator, &mut basis, &mut w)?;
    let m = run.alpha.len();
    let all: Vec<usize> = (0..m).collect();
    let eigen = eigen(&run.alpha, &run.beta, &all).map_err(|_| Error::NonFinite {
        rank,
        what: "the tridiagonal matrix T",
        during: TRACKING,
    })?;
    let components: Vec<f64> = eigen.rows.iter().map(|row| row[m - 1]).collect();
    operator.defer(TRACKING, basis.combination(&components, &mut w));
    let local = sums(layout, &w, &operator.gradient_at_origin());
    let sums = operator.sum(TRACKING, 2, local)?;
    let norm = sums[0].sqrt();
    let lanczos_residual = (run.beta[m - 1] * components[m - 1]).abs();
    let predicted: f64 = components.iter().zip(&run.errors).map(|(s, error)| s.abs() * error).sum();
    let hvp_error = PREDICTION_FACTOR * predicted;
    let lambda_max = Extreme {
        value: eigen.values[m - 1],
        residual: lanczos_residual + hvp_error,
        lanczos_residual,
        hvp_error,
    };
    let (loss, gradient_norm) = (operator.loss, operator.gradient_norm);
    operator.swap_tracked();
    let spent = operator.finish()?;
    let overlap = top.is_some().then(|| components[0].abs());
    *top = Some(w);
    Ok(Tracked {
        step,
        unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        loss,
        gradient_norm,
        lambda_max,
        overlap,
        gradient_overlap: (gradient_norm > 0.0 && norm > 0.0)
            .then(|| (sums[1] / (norm * gradient_norm)).abs()),
        gradients: spent.gradients,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// The bytes that it takes on this rank: θ₀, live gradients, g(θ₀), the kept vector, one of work and the basis.
pub(crate) fn bytes(host: &dyn Host, layout: &Layout, config: &ProbeConfig) -> u64 {
    let size = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
    let parameters: u64 = host.shards().iter().map(|shard| size(&shard.tensor)).sum();
    let live: u64 = host.live_gradients().iter().map(size).sum();
    parameters + live + (3 + config.track.products as u64) * layout.vector_bytes()
}

/// A basis with the start vector, a random vector, and a vector of work.
fn prepare(
    layout: &Layout,
    config: &ProbeConfig,
    lanczos: &Lanczos,
    top: Option<&Tensor>,
) -> Result<(Basis, Tensor, Tensor), TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut basis = Basis::new(layout, lanczos.reorthogonalize, lanczos.steps)?;
    let mut first = basis.next_row()?;
    let scale = (layout.parameters() as f64).sqrt().recip();
    let random = RandomProbe::new(config.slq.seed, 0, Distribution::Rademacher);
    match top {
        Some(top) => first.f_copy_(top)?,
        None => random.write(layout, scale, &first)?,
    }
    basis.commit()?;
    // The second row is free until the first product is complete.
    let second = basis.next_row()?;
    random.write(layout, scale, &second)?;
    Ok((basis, second, ShardedVector::zeros(layout)?.into_tensor()))
}

/// This rank's parts of ‖y‖² and ⟨y, g⟩.
fn sums(layout: &Layout, y: &Tensor, gradient: &Tensor) -> Result<Vec<f64>, TchError> {
    let mut sums = Sums::<2>::new();
    for (start, len) in counted_ranges(layout) {
        let piece = |vector: &Tensor| vector.f_narrow(0, start, len)?.f_to_kind(Kind::Double);
        let y = piece(y)?;
        sums.add(&Tensor::f_stack(&[&y, &piece(gradient)?], 0)?, &y)?;
    }
    Ok(sums.finish()?.to_vec())
}
