//! One probe: stochastic Lanczos quadrature of the host's loss, from the loan of θ to the snapshot.

use crate::config::{Distribution, ProbeConfig, SlqConfig};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::krylov::lanczos::Operator;
use crate::krylov::{Basis, Lanczos};
use crate::operator::Calibration;
use crate::operator::finite_difference::{FiniteDifference, ProductRecord, Spent};
use crate::sharded::layout::Layout;
use crate::sharded::random::RandomProbe;
use crate::sharded::ranks::Ranks;
use crate::sharded::sums;
use crate::sharded::vector::{ShardedVector, number};
use crate::spectrum::{Cost, HvpReport, ProbeRecord, SNAPSHOT_VERSION, Snapshot, Statistics, quadrature};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tch::{TchError, Tensor};

const STARTING: &str = "drawing a probe vector";

/// Probes the host's Hessian. Collective; parameters, random state and live gradients are restored
/// whatever happens.
pub(crate) fn snapshot(
    host: &mut dyn Host,
    layout: &Layout,
    config: &ProbeConfig,
    calibration: &mut Calibration,
    interrupter: &Interrupter,
    step: u64,
) -> Result<Snapshot> {
    let started = Instant::now();
    let mut ranks = Ranks::new(host);
    let tokens = host.probe_tokens();
    let slq = &config.slq;
    let storage = Storage::new(layout, slq).map_err(|source| torch(&ranks, source));
    let Storage { mut basis, mut w } = ranks.agree(host, STARTING, storage)?;
    let drawn = draw(layout, slq, 0, &mut basis).map_err(|source| torch(&ranks, source));
    ranks.agree(host, STARTING, drawn)?;
    let direction = basis.vector(0).map_err(|source| torch(&ranks, source))?;
    let w = &mut w;
    let mut operator =
        FiniteDifference::new(host, layout, &config.hvp, calibration, interrupter, &direction, w)?;
    let lanczos = Lanczos { steps: slq.steps, reorthogonalize: slq.reorthogonalize };
    let mut probes = Vec::with_capacity(slq.probes);
    for index in 0..slq.probes as u64 {
        let drawn = draw(layout, slq, index, &mut basis);
        operator.defer(STARTING, drawn);
        normalise(&mut operator, slq.distribution, &basis)?;
        let run = lanczos.run(&mut operator, &mut basis, w)?;
        probes.push(spectrum(&ranks, index, &run)?);
    }
    let (loss, gradient_norm, parameter_norm) =
        (operator.loss, operator.gradient_norm, operator.parameter_norm);
    let (products, redone) = (std::mem::take(&mut operator.products), operator.redone);
    let calibration_gradients = operator.calibration_gradients;
    let spent = operator.finish()?;
    let statistics = Statistics::new(&probes, layout.parameters()).ok_or(Error::NonFinite {
        rank: ranks.rank(),
        what: "the spectrum",
        during: "its statistics",
    })?;
    let hvp = report(&products, redone, spent.noise, calibration.gradient_repeats);
    let cost = Cost {
        calibration_gradients,
        basis_bytes: basis.bytes(),
        ..cost(&spent, &ranks, started.elapsed().as_secs_f64())
    };
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
        probes,
        hvp,
        cost,
    })
}

/// The bytes that a probe takes on this rank: θ₀, live gradients, g(θ₀), one vector of work and the basis.
pub(crate) fn bytes(host: &dyn Host, layout: &Layout, slq: &SlqConfig) -> u64 {
    let size = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
    let parameters: u64 = host.shards().iter().map(|shard| size(&shard.tensor)).sum();
    let live: u64 = host.live_gradients().iter().map(size).sum();
    let vectors = 2 + slq.reorthogonalize.basis_vectors(slq.steps) as u64;
    parameters + live + vectors * layout.vector_bytes()
}

/// The basis, and the one vector besides it.
struct Storage {
    basis: Basis,
    w: Tensor,
}

impl Storage {
    fn new(layout: &Layout, slq: &SlqConfig) -> Result<Self, TchError> {
        let basis = Basis::new(layout, slq.reorthogonalize, slq.steps)?;
        Ok(Self { basis, w: ShardedVector::zeros(layout)?.into_tensor() })
    }
}

fn torch(ranks: &Ranks, source: TchError) -> Error {
    Error::Torch { rank: ranks.rank(), during: STARTING, source }
}

/// Puts probe vector `index`, divided by √n, into an empty basis.
fn draw(layout: &Layout, slq: &SlqConfig, index: u64, basis: &mut Basis) -> Result<(), TchError> {
    basis.clear();
    let row = basis.next_row()?;
    let scale = (layout.parameters() as f64).sqrt().recip();
    RandomProbe::new(slq.seed, index, slq.distribution).write(layout, scale, &row)?;
    basis.commit();
    Ok(())
}

/// Makes the first basis vector a unit vector. Signs have norm √n as they are.
fn normalise(operator: &mut dyn Operator, distribution: Distribution, basis: &Basis) -> Result<()> {
    if distribution == Distribution::Rademacher {
        return Ok(());
    }
    let start = basis.vector(0);
    let squared = start.and_then(|q| Ok(vec![sums::norm_squared(operator.layout(), &q)?]));
    let norm = operator.sum(STARTING, 1, squared)?[0].sqrt();
    let scaled = basis.vector(0).and_then(|mut q| {
        let _no_grad = tch::no_grad_guard();
        let factor = number(norm.recip(), &q)?;
        q.f_mul_(&factor).map(drop)
    });
    operator.defer(STARTING, scaled);
    Ok(())
}

/// T was computed from reduced sums: every rank fails alike, if at all.
fn spectrum(ranks: &Ranks, index: u64, run: &crate::krylov::LanczosRun) -> Result<ProbeRecord> {
    quadrature(index, run).map_err(|_| Error::NonFinite {
        rank: ranks.rank(),
        what: "the tridiagonal matrix T",
        during: "the quadrature",
    })
}

fn report(products: &[ProductRecord], redone: u64, noise: f64, repeats: Option<bool>) -> HvpReport {
    let sorted = |f: &dyn Fn(&ProductRecord) -> f64| {
        let mut values: Vec<f64> = products.iter().map(f).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |values: &[f64]| values.get(values.len() / 2).copied().unwrap_or(0.0);
    let last = |values: &[f64]| values.last().copied().unwrap_or(0.0);
    let (errors, parities) = (sorted(&|product| product.error), sorted(&|product| product.parity));
    let steps = sorted(&|product| product.step);
    let central = products.iter().filter(|product| product.central).count() as u64;
    HvpReport {
        forward: products.len() as u64 - central,
        central,
        redone,
        step_min: steps.first().copied().unwrap_or(0.0),
        step_max: last(&steps),
        predicted_error_median: median(&errors),
        predicted_error_worst: last(&errors),
        parity_median: median(&parities),
        parity_worst: last(&parities),
        rounding_worst: last(&sorted(&|product| product.rounding)),
        gradient_noise: noise,
        gradient_repeats: repeats,
    }
}

fn cost(spent: &Spent, ranks: &Ranks, seconds: f64) -> Cost {
    Cost {
        seconds,
        gradient_seconds: spent.gradient_seconds,
        communication_seconds: spent.communication_seconds + ranks.seconds.as_secs_f64(),
        gradients: spent.gradients,
        calibration_gradients: 0,
        all_reduces: spent.all_reduces + ranks.all_reduces,
        reduced_values: spent.reduced_values + ranks.values,
        basis_bytes: 0,
        vector_bytes: spent.vector_bytes,
    }
}
