//! Passes over the shards that perturb θ and combine gradients. Each does its work and collects its
//! sums in one go, piece by piece, so that temporaries stay small.

use crate::operator::guard::Guard;
use crate::sharded::layout::Layout;
use crate::sharded::sums::Sums;
use crate::sharded::vector::{chunks, number, wider};
use tch::{Kind, TchError, Tensor};

/// What a displacement of the parameters is measured from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Not measured.
    Nowhere,
    /// θ₀.
    Saved,
    /// The values before this move.
    Present,
}

/// θ ← θ₀ + hv, rounded to the parameters' own precision. Returns this rank's parts of ⟨Δ, v⟩ and ‖Δ‖²
/// for the displacement Δ that really came about.
pub(crate) fn displace(
    guard: &Guard<'_>,
    layout: &Layout,
    v: &Tensor,
    h: f64,
    from: From,
) -> Result<[f64; 2], TchError> {
    let _no_grad = tch::no_grad_guard();
    let parameters: Vec<Tensor> = guard.shards().iter().map(|shard| shard.tensor.shallow_clone()).collect();
    let mut sums = Sums::<2>::new();
    for chunk in chunks(layout) {
        let mut target = chunk.of_shard(&parameters)?;
        let origin = chunk.of_shard(guard.saved())?;
        let direction = chunk.of(v)?;
        let before = match from {
            // A copy even of f64 parameters, which are about to change.
            From::Present if chunk.counted => Some(target.f_to_dtype(Kind::Double, false, true)?),
            From::Saved if chunk.counted => Some(origin.f_to_kind(Kind::Double)?),
            _ => None,
        };
        if origin.kind() == direction.kind() {
            let _ = origin.f_addcmul_out(&target, &direction, &number(h, &direction)?)?;
        } else {
            let kind = wider(origin.kind(), direction.kind());
            let direction = direction.f_to_kind(kind)?;
            target.f_copy_(&origin.f_to_kind(kind)?.f_addcmul(&direction, &number(h, &direction)?)?)?;
        }
        if let Some(before) = before {
            let moved = target.f_to_kind(Kind::Double)?.f_sub(&before)?;
            sums.add([(&moved, &direction.f_to_kind(Kind::Double)?), (&moved, &moved)])?;
        }
    }
    sums.finish()
}

/// w = g₊ becomes d = g₊ − g₋. Returns this rank's parts of ‖d‖², ‖g₊ + g₋ − 2g₀‖² and ⟨d, v⟩.
pub(crate) fn central(
    layout: &Layout,
    w: &Tensor,
    minus: &[Tensor],
    origin: &Tensor,
    v: &Tensor,
) -> Result<[f64; 3], TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut sums = Sums::<3>::new();
    for chunk in chunks(layout) {
        let mut target = chunk.of(w)?;
        let plus = target.f_to_kind(Kind::Double)?;
        let minus = chunk.of_shard(minus)?.f_to_kind(Kind::Double)?;
        let odd = plus.f_sub(&minus)?;
        if chunk.counted {
            let origin = chunk.of(origin)?.f_to_kind(Kind::Double)?;
            // The two small differences first: their sum is what is left of far larger numbers.
            let even = plus.f_sub(&origin)?.f_add(&minus.f_sub(&origin)?)?;
            let direction = chunk.of(v)?.f_to_kind(Kind::Double)?;
            sums.add([(&odd, &odd), (&even, &even), (&odd, &direction)])?;
        }
        target.f_copy_(&odd)?;
    }
    sums.finish()
}

/// w ← d = g₊ − g₀. Returns this rank's parts of ‖d‖² and ⟨d, v⟩.
pub(crate) fn forward(
    layout: &Layout,
    w: &Tensor,
    plus: &[Tensor],
    origin: &Tensor,
    v: &Tensor,
) -> Result<[f64; 2], TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut sums = Sums::<2>::new();
    for chunk in chunks(layout) {
        let plus = chunk.of_shard(plus)?.f_to_kind(Kind::Double)?;
        let difference = plus.f_sub(&chunk.of(origin)?.f_to_kind(Kind::Double)?)?;
        if chunk.counted {
            sums.add([(&difference, &difference), (&difference, &chunk.of(v)?.f_to_kind(Kind::Double)?)])?;
        }
        chunk.of(w)?.f_copy_(&difference)?;
    }
    sums.finish()
}
