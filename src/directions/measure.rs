//! One product along a direction.

use super::config::DirectionsConfig;
use super::record::{Along, AlongUpdate, Directions};
use crate::config::{Distribution, ProbeConfig};
use crate::error::{Error, Result};
use crate::host::{Host, Update};
use crate::interrupt::Interrupter;
use crate::krylov::Operator;
use crate::operator::{Calibration, FiniteDifference, Start};
use crate::sharded::layout::Layout;
use crate::sharded::random::RandomProbe;
use crate::sharded::ranks::Ranks;
use crate::sharded::sums;
use crate::sharded::vector::{ShardedVector, number};
use crate::spectrum::PREDICTION_FACTOR;
use tch::{TchError, Tensor};

const LENDING: &str = "lending the optimizer's update";
const ALONG: &str = "measuring the curvature along a direction";

/// The host's update, for the time of a measurement.
#[derive(Default)]
pub(crate) struct Lent(Option<Update>);

impl Lent {
    /// The update itself, if there is one.
    pub(crate) fn into_update(self) -> Option<Update> {
        self.0
    }

    /// What the host lends, where `wanted`. Collective then.
    pub(crate) fn of(host: &mut dyn Host, wanted: bool, ranks: &mut Ranks) -> Result<Self> {
        if !wanted {
            return Ok(Self(None));
        }
        let rank = ranks.rank();
        let lent = host.update().map_err(|source| Error::Host { rank, during: LENDING, source });
        let shards = host.shards();
        let fits = |update: &Update| {
            update.tensors.len() == shards.len()
                && update.tensors.iter().zip(&shards).all(|(u, shard)| u.numel() == shard.tensor.numel())
        };
        let lent = lent.and_then(|lent| match lent {
            Some(update) if !fits(&update) => Err(Error::Optimizer {
                rank,
                reason: "`update()` does not return one tensor of the shard's size for every shard".into(),
            }),
            lent => Ok(lent),
        });
        let lent = ranks.agree(host, LENDING, lent)?;
        let seen = lent.as_ref().map_or(0.0, |update| 1.0 + f64::from(u8::from(update.coming)));
        if ranks.differs(host, LENDING, seen)? {
            let reason = "some ranks lend an update, others none or another".into();
            return Err(Error::Optimizer { rank, reason });
        }
        Ok(Self(lent))
    }
}

/// The directions of a snapshot, while θ is on loan anyway; `v` and `w` are scratch. Collective.
pub(crate) fn on_loan(
    operator: &mut FiniteDifference<'_, '_>,
    config: DirectionsConfig,
    lent: &Lent,
    v: &Tensor,
    w: &mut Tensor,
) -> Result<Directions> {
    let products = std::mem::take(&mut operator.products);
    let redone = operator.redone;
    operator.swap_memory(|calibration| &mut calibration.direction_curvature);
    let mut found = Directions::default();
    // Each direction has its own place in the memory of what suited it last time.
    let mut place = 0;
    if config.gradient {
        let written = copy(v, &operator.gradient_at_origin());
        operator.defer(ALONG, written);
        found.gradient = unit(operator, place, v, w)?;
        place += usize::from(found.gradient.is_some());
    }
    if let (true, Lent(Some(update))) = (config.update, lent) {
        found.update = update_on_loan(operator, update, place, v, w)?;
    }
    operator.swap_memory(|calibration| &mut calibration.direction_curvature);
    operator.products = products;
    operator.redone = redone;
    Ok(found)
}

/// Along an update, with the change of the loss.
fn update_on_loan(
    operator: &mut FiniteDifference<'_, '_>,
    update: &Update,
    place: usize,
    v: &Tensor,
    w: &mut Tensor,
) -> Result<Option<AlongUpdate>> {
    let written = gather(operator.layout(), v, &update.tensors);
    operator.defer(ALONG, written);
    let Some(along) = unit(operator, place, v, w)? else { return Ok(None) };
    let (after, realised) = operator.loss_at(v, along.norm)?;
    let before = operator.loss_at_origin()?;
    Ok(Some(AlongUpdate {
        coming: update.coming,
        along,
        predicted_change: along.norm * (along.slope + 0.5 * along.norm * along.curvature),
        measured_change: after - before,
        realised: realised / along.norm,
    }))
}

/// Normalises v, and multiplies by H. `None` for v = 0.
fn unit(
    operator: &mut FiniteDifference<'_, '_>,
    place: usize,
    v: &Tensor,
    w: &mut Tensor,
) -> Result<Option<Along>> {
    let gradient = operator.gradient_at_origin();
    let layout = operator.layout();
    let local = sums::norm_squared(layout, v)
        .and_then(|squared| Ok(vec![squared, sums::inner_product(layout, v, &gradient)?]));
    let sums = operator.sum(ALONG, 2, local)?;
    let (norm, slope) = (sums[0].sqrt(), sums[1]);
    if !(norm.is_finite() && slope.is_finite()) {
        return Err(Error::NonFinite { rank: operator.rank(), what: "a direction", during: ALONG });
    }
    if norm == 0.0 {
        return Ok(None);
    }
    let scaled = scale(v, norm.recip());
    operator.defer(ALONG, scaled);
    let product = operator.apply(place, v, None, w)?;
    Ok(Some(Along {
        norm,
        slope: slope / norm,
        curvature: product.alpha,
        error: PREDICTION_FACTOR * product.error,
        product_norm: product.norm,
    }))
}

/// Along a direction that is aligned with the shards, which is not kept. `None` for 0. Collective; everything is
/// restored.
pub(crate) fn along(
    host: &mut dyn Host,
    layout: &Layout,
    config: &ProbeConfig,
    calibration: &mut Calibration,
    interrupter: &Interrupter,
    direction: &[Tensor],
) -> Result<Option<Along>> {
    let mut ranks = Ranks::new(host);
    let rank = ranks.rank();
    let shards = host.shards();
    let fits = direction.len() == shards.len()
        && direction.iter().zip(&shards).all(|(v, shard)| v.numel() == shard.tensor.numel());
    let reason = "the direction is not one tensor of the shard's size for every shard".to_owned();
    let fits = if fits { Ok(()) } else { Err(Error::Layout { rank, parameter: "*".into(), reason }) };
    ranks.agree(host, ALONG, fits)?;
    drop(shards);
    on_own_loan(host, layout, config, calibration, interrupter, |operator, v, w| {
        let written = gather(operator.layout(), v, direction);
        operator.defer(ALONG, written);
        // What suits one direction of a user says nothing of the next.
        let mut memory = Vec::new();
        operator.exchange_curvature(&mut memory);
        let found = unit(operator, 0, v, w);
        operator.exchange_curvature(&mut memory);
        found
    })
}

/// Along the host's update, if it lends one. Collective; everything is restored.
pub(crate) fn along_update(
    host: &mut dyn Host,
    layout: &Layout,
    config: &ProbeConfig,
    calibration: &mut Calibration,
    interrupter: &Interrupter,
) -> Result<Option<AlongUpdate>> {
    let mut ranks = Ranks::new(host);
    let lent = Lent::of(host, true, &mut ranks)?;
    if lent.0.is_none() {
        return Ok(None);
    }
    let wanted = DirectionsConfig { gradient: false, update: true };
    on_own_loan(host, layout, config, calibration, interrupter, |operator, v, w| {
        Ok(on_loan(operator, wanted, &lent, v, w)?.update)
    })
}

/// With two vectors and an operator made for this alone.
fn on_own_loan<T>(
    host: &mut dyn Host,
    layout: &Layout,
    config: &ProbeConfig,
    calibration: &mut Calibration,
    interrupter: &Interrupter,
    measure: impl FnOnce(&mut FiniteDifference<'_, '_>, &Tensor, &mut Tensor) -> Result<T>,
) -> Result<T> {
    let mut ranks = Ranks::new(host);
    let room = || -> Result<(Tensor, Tensor), TchError> {
        let [v, w] = [ShardedVector::zeros(layout)?, ShardedVector::zeros(layout)?];
        RandomProbe::new(config.slq.seed, 0, Distribution::Rademacher).write_scaled(layout, v.tensor())?;
        Ok((v.into_tensor(), w.into_tensor()))
    };
    let room = room().map_err(|source| Error::Torch { rank: ranks.rank(), during: ALONG, source });
    let (v, mut w) = ranks.agree(host, ALONG, room)?;
    // Noise is measured along a random vector, as for a full probe.
    let start = Start { vector: &v, spare: None };
    let mut operator =
        FiniteDifference::new(host, layout, &config.hvp, calibration, interrupter, start, &mut w)?;
    let found = measure(&mut operator, &v, &mut w)?;
    operator.finish()?;
    Ok(found)
}

fn gather(layout: &Layout, v: &Tensor, tensors: &[Tensor]) -> Result<(), TchError> {
    ShardedVector::alias(v).gather_from(layout, tensors)
}

fn copy(v: &Tensor, source: &Tensor) -> Result<(), TchError> {
    let _no_grad = tch::no_grad_guard();
    v.shallow_clone().f_copy_(source)
}

fn scale(v: &Tensor, factor: f64) -> Result<(), TchError> {
    let _no_grad = tch::no_grad_guard();
    v.shallow_clone().f_mul_(&number(factor, v)?).map(drop)
}
