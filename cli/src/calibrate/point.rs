//! Where precisions stand: the parameters that their forward passes use.

use super::precision::Precision;
use tch::Kind;

/// Precisions whose forward passes use the same parameters, and so have the same Hessian.
#[derive(Debug, PartialEq, Eq)]
pub struct Point {
    /// What the model's parameters are rounded to.
    pub kind: Kind,
    pub precisions: Vec<Precision>,
}

/// Groups precisions, in order. `is_rounded` tells whether rounding the model to a type leaves it as it is: such types
/// stand where f64 does.
pub fn points(precisions: &[Precision], is_rounded: impl Fn(Kind) -> bool) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    for &precision in precisions {
        let kind = precision.rounds_to();
        let kind = if kind == Kind::Double || is_rounded(kind) { Kind::Double } else { kind };
        match points.iter_mut().find(|point| point.kind == kind) {
            Some(point) => point.precisions.push(precision),
            None => points.push(Point { kind, precisions: vec![precision] }),
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use Precision::{Bf16, Bf16Compute, F32, F64};

    #[test]
    fn precisions_share_a_point_where_rounding_changes_nothing() {
        let of = |is_rounded: fn(Kind) -> bool| -> Vec<Vec<Precision>> {
            let points = points(&[F32, Bf16Compute, Bf16, F64], is_rounded);
            points.into_iter().map(|point| point.precisions).collect()
        };
        assert_eq!(of(|_| false), [vec![F32], vec![Bf16Compute, Bf16], vec![F64]]);
        assert_eq!(of(|kind| kind == Kind::Float), [vec![F32, F64], vec![Bf16Compute, Bf16]]);
        assert_eq!(of(|_| true), [vec![F32, Bf16Compute, Bf16, F64]]);
    }
}
