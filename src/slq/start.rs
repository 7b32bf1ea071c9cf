//! What a run starts from: the basis, and probe vectors in it.

use super::STARTING;
use crate::config::{Distribution, SlqConfig};
use crate::error::{Error, Result};
use crate::krylov::{Basis, Operator};
use crate::operator::FiniteDifference;
use crate::sharded::layout::Layout;
use crate::sharded::random::RandomProbe;
use crate::sharded::ranks::Ranks;
use crate::sharded::sums;
use crate::sharded::vector::{ShardedVector, number};
use tch::{TchError, Tensor};

/// The basis, and the one vector besides it.
pub(super) struct Storage {
    pub(super) basis: Basis,
    pub(super) w: Tensor,
}

impl Storage {
    pub(super) fn new(layout: &Layout, slq: &SlqConfig) -> Result<Self, TchError> {
        let basis = Basis::stored_as(layout, slq.reorthogonalize, slq.steps, slq.basis)?;
        Ok(Self { basis, w: ShardedVector::zeros(layout)?.into_tensor() })
    }
}

pub(super) fn torch(ranks: &Ranks, source: TchError) -> Error {
    Error::Torch { rank: ranks.rank(), during: STARTING, source }
}

/// Puts probe vector `index`, divided by √n, into an empty basis.
pub(super) fn draw(layout: &Layout, slq: &SlqConfig, index: u64, basis: &mut Basis) -> Result<(), TchError> {
    basis.clear();
    let _ = draw_into(layout, slq, index, basis)?;
    basis.commit()
}

/// Writes it to the next row of the basis, which is not one of its vectors yet.
pub(super) fn draw_into(
    layout: &Layout,
    slq: &SlqConfig,
    index: u64,
    basis: &Basis,
) -> Result<Tensor, TchError> {
    let row = basis.next_row()?;
    RandomProbe::new(slq.seed, index, slq.distribution).write_scaled(layout, &row)?;
    Ok(row)
}

/// Makes unit probe vector `index` the basis' only vector.
pub(super) fn begin(
    operator: &mut FiniteDifference<'_, '_>,
    slq: &SlqConfig,
    index: u64,
    basis: &mut Basis,
) -> Result<()> {
    let drawn = draw(operator.layout(), slq, index, basis);
    operator.defer(STARTING, drawn);
    normalise(operator, slq.distribution, basis)
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
