//! A unit vector along which products are compared, with the reference's.

use crate::error::{Error, Result};
use crate::krylov::Operator;
use crate::krylov::lanczos::agree;
use crate::sharded::layout::Layout;
use crate::sharded::sums::Sums;
use crate::sharded::vector::{counted_ranges, number};
use serde::{Deserialize, Serialize};
use std::fmt;
use tch::{Kind, TchError, Tensor};

const COMPARING: &str = "comparing a product with the reference";

/// Which vector it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectionKind {
    /// Signs / √n.
    Random,
    /// g / ‖g‖.
    Gradient,
    /// Near the eigenvector of the largest eigenvalue.
    Top,
}

impl fmt::Display for DirectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Random => "random",
            Self::Gradient => "gradient",
            Self::Top => "top",
        })
    }
}

/// This rank's part of a unit vector v and of Hv.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) kind: DirectionKind,
    /// v, of the type of the reference's vectors.
    pub(super) vector: Tensor,
    /// Hv, of that type, too.
    pub(super) product: Tensor,
    /// ‖Hv‖.
    pub(super) norm: f64,
    /// vᵀHv.
    pub(super) curvature: f64,
    /// The estimated relative error of the reference's own product.
    pub(super) error: f64,
}

impl Direction {
    /// v in the type of the layout's vectors. Collective.
    pub(super) fn vector(&self, operator: &mut dyn Operator) -> Result<Tensor> {
        let kind = operator.layout().kind();
        agree(operator, COMPARING, self.vector.f_to_kind(kind))
    }

    /// ‖scale·w − Hv‖ / ‖Hv‖. Collective.
    pub(super) fn error_of(&self, operator: &mut dyn Operator, w: &Tensor, scale: f64) -> Result<f64> {
        distance(operator, w, scale, &self.product).map(|distance| distance / self.norm)
    }
}

/// ‖scale·a − b‖. Collective.
pub(super) fn distance(operator: &mut dyn Operator, a: &Tensor, scale: f64, b: &Tensor) -> Result<f64> {
    let local = squared_distance(operator.layout(), a, scale, b).map(|sum| vec![sum]);
    Ok(operator.sum(COMPARING, 1, local)?[0].sqrt())
}

fn squared_distance(layout: &Layout, a: &Tensor, scale: f64, b: &Tensor) -> Result<f64, TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut sums = Sums::<1>::new();
    for (start, len) in counted_ranges(layout) {
        let piece = |tensor: &Tensor| tensor.f_narrow(0, start, len)?.f_to_kind(Kind::Double);
        let b = piece(b)?;
        sums.add_square(&piece(a)?.f_mul(&number(scale, &b)?)?.f_sub(&b)?)?;
    }
    Ok(sums.finish()?[0])
}

/// Whether vectors of two hosts are sharded alike, as far as this rank can tell.
pub(super) fn same_sharding(rank: usize, layout: &Layout, reference: &[Direction]) -> Result<()> {
    let entries = layout.local_len();
    match reference.iter().find(|direction| direction.vector.numel() as i64 != entries) {
        None => Ok(()),
        Some(direction) => Err(Error::Layout {
            rank,
            parameter: "*".into(),
            reason: format!(
                "this host has {entries} entries on this rank and the reference {}; both must be the same model, sharded \
                 in the same way",
                direction.vector.numel()
            ),
        }),
    }
}
