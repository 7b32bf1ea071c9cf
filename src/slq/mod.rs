//! One probe: stochastic Lanczos quadrature of the host's loss, from the loan of θ to the snapshot.

mod report;
mod resume;

use crate::config::{Distribution, ProbeConfig, SlqConfig};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::krylov::lanczos::Operator;
use crate::krylov::{Basis, Lanczos, LanczosState};
use crate::operator::Calibration;
use crate::operator::finite_difference::FiniteDifference;
use crate::progress::Observer;
use crate::sharded::layout::Layout;
use crate::sharded::random::RandomProbe;
use crate::sharded::ranks::Ranks;
use crate::sharded::sums;
use crate::sharded::vector::{ShardedVector, number};
use crate::spectrum::{Cost, ProbeRecord, SNAPSHOT_VERSION, Snapshot, Statistics, quadrature};
use report::{cost, report};
use resume::Resume;
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
    observer: &mut Observer,
    step: u64,
) -> Result<Snapshot> {
    let started = Instant::now();
    let mut ranks = Ranks::new(host);
    let tokens = host.probe_tokens();
    let slq = &config.slq;
    let storage = Storage::new(layout, slq).map_err(|source| torch(&ranks, source));
    let Storage { mut basis, mut w } = ranks.agree(host, STARTING, storage)?;
    let mut resume = Resume::new(host, layout, config, step, &mut ranks, &mut basis)?;
    if let Some(saved) = resume.as_ref().and_then(Resume::saved) {
        // As it was before the probe that is resumed began to count.
        *calibration =
            Calibration { age: saved.calibration.age.saturating_sub(1), ..saved.calibration.clone() };
    } else {
        let drawn = draw(layout, slq, 0, &mut basis).map_err(|source| torch(&ranks, source));
        ranks.agree(host, STARTING, drawn)?;
    }
    // Along the first vector; any will do where the noise is known.
    let direction = basis.vector(basis.oldest()).map_err(|source| torch(&ranks, source))?;
    let w = &mut w;
    let mut operator =
        FiniteDifference::new(host, layout, &config.hvp, calibration, interrupter, &direction, w)?;
    let lanczos = Lanczos { steps: slq.steps, reorthogonalize: slq.reorthogonalize };
    let (mut probes, mut begun) = match &mut resume {
        Some(resume) => resume.restore(&mut operator),
        None => (Vec::new(), None),
    };
    for index in probes.len() as u64..slq.probes as u64 {
        let mut state = match begun.take() {
            Some(state) => state,
            None => {
                let drawn = draw(layout, slq, index, &mut basis);
                operator.defer(STARTING, drawn);
                normalise(&mut operator, slq.distribution, &basis)?;
                LanczosState::default()
            }
        };
        let run = (index as usize, slq.probes);
        while lanczos.advance(&mut operator, &mut basis, w, &mut state)? {
            observer.stepped(run, &lanczos, &state, false, operator.gradients());
            if let Some(resume) = &mut resume {
                resume.save(&mut operator, layout, &basis, &probes, &state)?;
            }
        }
        observer.stepped(run, &lanczos, &state, true, operator.gradients());
        probes.push(spectrum(&ranks, index, &state.run)?);
        if let Some(resume) = &mut resume {
            resume.next_run();
        }
    }
    let gradients_before = resume.map_or(0, Resume::finish);
    let (loss, gradient_norm, parameter_norm) =
        (operator.loss, operator.gradient_norm, operator.parameter_norm);
    let (products, redone) = (std::mem::take(&mut operator.products), operator.redone);
    let calibration_gradients = operator.calibration_gradients;
    let mut spent = operator.finish()?;
    spent.gradients += gradients_before;
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
