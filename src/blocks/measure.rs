//! A measurement from its plan to its record.

use super::assemble::{Found, assemble};
use super::comparison::Comparer;
use super::direction::Direction;
use super::observed::Observed;
use super::partition::Partition;
use super::plan::Plan;
use super::record::BlockDiagonal;
use super::spectrum::spectra;
use crate::config::{Distribution, ProbeConfig, SlqConfig};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::krylov::Operator;
use crate::operator::{Calibration, FiniteDifference, Start};
use crate::progress::Observer;
use crate::sharded::layout::Layout;
use crate::sharded::random::RandomProbe;
use crate::sharded::ranks::Ranks;
use crate::sharded::vector::ShardedVector;
use crate::slq::report;
use tch::{TchError, Tensor};

const STARTING: &str = "starting to compare the Hessian with its diagonal blocks";

/// Measures what `plan` says of any symmetric operator. `gradient` is the vector to compare along besides random
/// ones, local like all others, where there is one and it is not 0; `w` is scratch. Of `slq` the seed and
/// `reorthogonalize` count. Collective.
///
/// # Errors
/// As the operator and libtorch report.
pub fn measure(
    operator: &mut dyn Operator,
    partition: &Partition,
    plan: Plan,
    slq: &SlqConfig,
    gradient: Option<&Tensor>,
    w: &mut Tensor,
) -> Result<BlockDiagonal> {
    let layout = operator.layout().clone();
    let (seed, count) = (slq.seed, partition.blocks().len());
    let block_of = |shard: usize| partition.block_of(shard);
    let n = layout.parameters() as f64;
    let norms: Vec<f64> = partition.blocks().iter().map(|b| (b.parameters as f64 / n).sqrt()).collect();

    let mut comparer = Comparer::new(operator, &layout, count, block_of, plan.exact, w)?;
    let mut vectors = Vec::new();
    for index in 0..plan.vectors as u64 {
        let direction = Direction::Random { seed, index };
        if plan.exact {
            vectors.push(comparer.exact(direction, n.sqrt(), &norms)?);
        } else {
            vectors.extend(comparer.stochastic(direction, n.sqrt(), 1, plan.draws)?);
        }
    }
    let mut along = Vec::new();
    if let Some(gradient) = gradient.filter(|_| plan.along_gradient) {
        let norms = comparer.norms(gradient)?;
        let length = norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
        if length > 0.0 {
            comparer.forget();
            let direction = Direction::Gradient { seed, gradient };
            let norms: Vec<f64> = norms.iter().map(|norm| norm / length).collect();
            along = if plan.gradient_is_exact() {
                vec![comparer.exact(direction, length, &norms)?]
            } else {
                comparer.stochastic(direction, length, plan.vectors, plan.draws)?
            };
        }
    }
    let compared = comparer.hvps;
    drop(comparer);
    let spectra = spectra(operator, &partition.layouts(&layout), block_of, &plan.spectrum_steps, slq, w)?;
    let steps: usize = spectra.iter().flatten().map(|run| run.alpha.len()).sum();
    let found = Found { vectors, gradient: along, spectra, hvps: compared + steps as u64 };
    Ok(assemble(found, partition, plan))
}

/// The measurement of a snapshot, while θ is on loan anyway.
pub(crate) fn on_loan(
    operator: &mut FiniteDifference<'_, '_>,
    partition: &Partition,
    config: &ProbeConfig,
    w: &mut Tensor,
    observer: &mut Observer,
) -> Result<BlockDiagonal> {
    let plan = Plan::new(&config.blocks, partition);
    // Before it is spent; at debug, since a probe has one line at info.
    ::log::debug!("blocks: {plan}");
    operator.limit_redone(plan.spare());
    let before = (std::mem::take(&mut operator.products), operator.redone);
    let gradient = operator.gradient_at_origin();
    let mut observed = Observed::new(operator, observer, plan.hvps());
    let measured = measure(&mut observed, partition, plan, &config.slq, Some(&gradient), w);
    let (products, redone) = (std::mem::replace(&mut operator.products, before.0), operator.redone);
    operator.redone = before.1;
    operator.limit_redone(None);
    let products = report(&products, redone - before.1, operator.noise, operator.calibration());
    measured.map(|measured| BlockDiagonal { products, ..measured })
}

/// The bytes of a measurement's vectors on this rank, beside θ₀, g₀ and the vector of work.
pub(crate) fn bytes(layout: &Layout, partition: &Partition, config: &ProbeConfig) -> u64 {
    let plan = Plan::new(&config.blocks, partition);
    let vector = layout.vector_bytes();
    let comparing = if plan.exact { 2 } else { 3 } * vector;
    let spectra = partition.layouts(layout).into_iter().zip(&plan.spectrum_steps).map(|(layout, &steps)| {
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let rows = if steps == 0 { 0 } else { config.slq.reorthogonalize.basis_vectors(steps) as u64 + 1 };
        rows * layout.vector_bytes()
    });
    comparing.max(vector + spectra.max().unwrap_or(0))
}

/// Measures the blocks of the host's Hessian at the present parameters, without a probe of the whole of it: what
/// `config.blocks` says, with products as `config.hvp` says and the seed of `config.slq`. Everything is restored, as
/// after a probe. Collective.
///
/// ```
/// # use hessian_probe::{Gradient, Host, HostError, ProbeConfig, ProcessGroup, Shard, SingleProcess};
/// # use tch::Tensor;
/// # struct Valley(Vec<Tensor>);
/// # impl Host for Valley {
/// #     fn shards(&self) -> Vec<Shard> {
/// #         let named = |(name, tensor): (&str, &Tensor)| (name.to_owned(), tensor.shallow_clone());
/// #         Shard::whole(["x", "y"].into_iter().zip(&self.0).map(named), false)
/// #     }
/// #     fn gradient(&mut self) -> Result<Gradient, HostError> {
/// #         let [x, y] = [self.0[0].double_value(&[0]), self.0[1].double_value(&[0])];
/// #         let loss = 2.0 * x * x + x * y + 1.5 * y * y;
/// #         Ok(Gradient { loss, tensors: vec![Tensor::from_slice(&[4.0 * x + y]), Tensor::from_slice(&[x + 3.0 * y])] })
/// #     }
/// #     fn group(&self) -> &dyn ProcessGroup {
/// #         &SingleProcess
/// #     }
/// # }
/// // The loss 2x² + xy + 3y²/2 of a host with two parameters: H = (4 1; 1 3).
/// let mut host = Valley(vec![Tensor::from_slice(&[0.5]), Tensor::from_slice(&[-0.25])]);
/// let config = ProbeConfig::from_toml_str("[blocks]\nby = \"tensor\"")?;
/// let found = hessian_probe::blocks::block_diagonal(&mut host, &config)?;
/// assert!((found.blocks[0].trace.mean - 4.0).abs() < 1e-6);
/// assert!((found.blocks[1].lambda_max.unwrap().value - 3.0).abs() < 1e-6);
/// // Off the diagonal there are 1² + 1² of 4² + 3² + 1² + 1².
/// let share = found.off_diagonal_share.unwrap();
/// assert!((share.mean - 2.0 / 27.0).abs() <= 3.0 * share.standard_error.unwrap() + 1e-6);
/// # Ok::<(), hessian_probe::Error>(())
/// ```
///
/// # Errors
/// When the configuration names no blocks or cannot be used, or the host fails on any rank.
pub fn block_diagonal(host: &mut dyn Host, config: &ProbeConfig) -> Result<BlockDiagonal> {
    config.validate()?;
    if !config.blocks.is_on() {
        return Err(Error::config(
            "blocks.by",
            "names no blocks; set it to \"layer\", \"tensor\" or \"kind\"",
        ));
    }
    let layout = Layout::new(host, config.slq.dtype)?;
    let partition = Partition::new(host, &layout, &config.blocks)?;
    let mut ranks = Ranks::new(host);
    let rank = ranks.rank();
    let vectors = start(&layout, config.slq.seed);
    let vectors = vectors.map_err(|source| Error::Torch { rank, during: STARTING, source });
    let (direction, mut w) = ranks.agree(host, STARTING, vectors)?;
    let (mut calibration, never) = (Calibration::default(), Interrupter::default());
    let start = Start { vector: &direction, spare: None };
    let mut operator =
        FiniteDifference::new(host, &layout, &config.hvp, &mut calibration, &never, start, &mut w)?;
    drop(direction);
    let found = on_loan(&mut operator, &partition, config, &mut w, &mut Observer::default())?;
    operator.finish()?;
    Ok(found)
}

/// The first Rademacher vector, along which the noise is measured, and a vector of work.
fn start(layout: &Layout, seed: u64) -> Result<(Tensor, Tensor), TchError> {
    let [direction, w] = [ShardedVector::zeros(layout)?, ShardedVector::zeros(layout)?];
    RandomProbe::new(seed, 0, Distribution::Rademacher).write_scaled(layout, direction.tensor())?;
    Ok((direction.into_tensor(), w.into_tensor()))
}
