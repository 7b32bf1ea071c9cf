//! Passes over the shards that perturb θ and combine gradients. Each does its work and collects its sums in one go: in one
//! loop where it can ([`fused`]), and otherwise piece by piece, so that temporaries stay small.

use crate::operator::guard::Guard;
use crate::sharded::fused::{self, Source, spans};
use crate::sharded::layout::Layout;
use crate::sharded::sums::{Rows, Sums};
use crate::sharded::vector::{Chunk, chunks, number, wider};
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
/// for the displacement Δ that really came about, in the precision in which the forward pass uses them.
pub(crate) fn displace(
    guard: &Guard<'_>,
    layout: &Layout,
    v: &Tensor,
    h: f64,
    from: From,
) -> Result<[f64; 2], TchError> {
    let _no_grad = tch::no_grad_guard();
    let parameters: Vec<Tensor> = guard.shards().iter().map(|shard| shard.tensor.shallow_clone()).collect();
    if let Some(sums) = displace_at_once(guard, layout, &parameters, v, h as f32, from) {
        return Ok(sums);
    }
    let (rows, mut sums) = (Rows::new(layout, 2)?, Sums::<2>::new());
    for chunk in chunks(layout) {
        let mut target = chunk.of_shard(&parameters)?;
        let origin = guard.origin(&chunk)?;
        let direction = chunk.of(v)?;
        let kind = common_kind(&[&origin, &direction]);
        // As the forward pass sees it; a copy, since the parameters are about to change.
        let seen = |tensor: &Tensor| match guard.compute_kind() {
            Some(compute) => tensor.f_to_kind(compute)?.f_to_kind(kind),
            None => tensor.f_to_dtype(kind, false, true),
        };
        let before = match from {
            From::Present if chunk.counted => Some(seen(&target)?),
            From::Saved if chunk.counted && guard.compute_kind().is_some() => Some(seen(&origin)?),
            From::Saved if chunk.counted => Some(origin.f_to_kind(kind)?),
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
            let after =
                if guard.compute_kind().is_some() { seen(&target)? } else { target.f_to_kind(kind)? };
            let rows = rows.fill(&[&after.f_sub(&before)?, &direction])?;
            sums.add(&rows, &rows.f_select(0, 0)?)?;
        }
    }
    let [moved, along] = sums.finish()?;
    Ok([along, moved])
}

/// The same in one loop.
fn displace_at_once(
    guard: &Guard<'_>,
    layout: &Layout,
    parameters: &[Tensor],
    v: &Tensor,
    h: f32,
    from: From,
) -> Option<[f64; 2]> {
    if guard.compute_kind().is_some() {
        return None;
    }
    let read = [Source::Shards(guard.saved()), Source::Vector(v)];
    let (spans, written) = (spans(layout), Source::Shards(parameters));
    let moved = |after: f32, before: f32, v: f32| {
        let moved = f64::from(after - before);
        (after, [moved * f64::from(v), moved * moved])
    };
    match from {
        From::Nowhere => {
            fused::pass(&spans, read, written, |[origin, v], _| (origin + h * v, [])).map(|[]| [0.0; 2])
        }
        From::Saved => fused::pass(&spans, read, written, |[origin, v], _| moved(origin + h * v, origin, v)),
        From::Present => {
            fused::pass(&spans, read, written, |[origin, v], present| moved(origin + h * v, present, v))
        }
    }
}

/// w = g₊ becomes d = g₊ − g₋. Returns this rank's parts of ‖d‖², ‖e‖² with e = g₊ + g₋ − 2g₀, ⟨d, v⟩ and,
/// `with_even` (else 0), ⟨e, v⟩.
pub(crate) fn central(
    layout: &Layout,
    w: &Tensor,
    minus: &[Tensor],
    origin: &Tensor,
    v: &Tensor,
    with_even: bool,
) -> Result<[f64; 4], TchError> {
    let _no_grad = tch::no_grad_guard();
    let read = [Source::Shards(minus), Source::Vector(origin), Source::Vector(v)];
    let at_once = fused::pass(&spans(layout), read, Source::Vector(w), |[minus, origin, v], plus| {
        let odd = plus - minus;
        // The two small differences first: their sum is what is left of far larger numbers.
        let even = f64::from((plus - origin) + (minus - origin));
        let [wide, v] = [odd, v].map(f64::from);
        (odd, [wide * wide, even * even, wide * v, even * v])
    });
    if let Some([odd, even, along, even_along]) = at_once {
        return Ok([odd, even, along, if with_even { even_along } else { 0.0 }]);
    }
    let (mut odd_sums, mut even_sums) = (NormAndAlong::new(layout)?, Sums::<1>::new());
    let mut even_along = Sums::<1>::new();
    for chunk in chunks(layout) {
        let (mut target, minus) = (chunk.of(w)?, chunk.of_shard(minus)?);
        let kind = common_kind(&[&target, &minus]);
        let (plus, minus) = (target.f_to_kind(kind)?, minus.f_to_kind(kind)?);
        let odd = plus.f_sub(&minus)?;
        if chunk.counted {
            let origin = chunk.of(origin)?.f_to_kind(kind)?;
            // The two small differences first: their sum is what is left of far larger numbers.
            let mut even = plus.f_sub(&origin)?;
            let even = even.f_add_(&minus.f_sub(&origin)?)?;
            even_sums.add_square(&even)?;
            if with_even {
                let v = chunk.of(v)?.f_to_kind(Kind::Double)?;
                even_along.add(&even.f_to_kind(Kind::Double)?.f_view([1, -1])?, &v)?;
            }
        }
        odd_sums.add(&chunk, &odd, v)?;
        target.f_copy_(&odd)?;
    }
    let ([odd, along], [even]) = (odd_sums.finish()?, even_sums.finish()?);
    let [even_along] = even_along.finish()?;
    Ok([odd, even, along, even_along])
}

/// w = d = g₊ − g₋ and g₊₊, the gradient at θ₀ + 2hv, become 8d − (g₊₊ − g₀): the half of a fourth-order
/// difference that needs no third gradient at a time. Only differences are stored: they round less.
pub(crate) fn outer_plus(
    layout: &Layout,
    w: &Tensor,
    plus: &[Tensor],
    origin: &Tensor,
) -> Result<(), TchError> {
    let _no_grad = tch::no_grad_guard();
    for chunk in chunks(layout) {
        let mut target = chunk.of(w)?;
        let outer = from_origin(&chunk, plus, origin)?;
        let _ = target.f_mul_(&number(8.0, &target)?)?.f_sub_(&outer)?;
    }
    Ok(())
}

/// w ← d₄ = w + (g₋₋ − g₀). Returns this rank's parts of ‖d₄‖² and ⟨d₄, v⟩.
pub(crate) fn outer_minus(
    layout: &Layout,
    w: &Tensor,
    minus: &[Tensor],
    origin: &Tensor,
    v: &Tensor,
) -> Result<[f64; 2], TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut sums = NormAndAlong::new(layout)?;
    for chunk in chunks(layout) {
        let target = chunk.of(w)?.f_add_(&from_origin(&chunk, minus, origin)?)?;
        sums.add(&chunk, &target, v)?;
    }
    sums.finish()
}

/// w ← `product`, which is aligned with the shards. Returns this rank's parts of ‖w‖² and ⟨w, v⟩.
pub(crate) fn take(
    layout: &Layout,
    w: &Tensor,
    product: &[Tensor],
    v: &Tensor,
) -> Result<[f64; 2], TchError> {
    let _no_grad = tch::no_grad_guard();
    let mut sums = NormAndAlong::new(layout)?;
    for chunk in chunks(layout) {
        let mut target = chunk.of(w)?;
        target.f_copy_(&chunk.of_shard(product)?)?;
        sums.add(&chunk, &target, v)?;
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
    let read = [Source::Shards(plus), Source::Vector(origin), Source::Vector(v)];
    let at_once = fused::pass(&spans(layout), read, Source::Vector(w), |[plus, origin, v], _| {
        let difference = plus - origin;
        let wide = f64::from(difference);
        (difference, [wide * wide, wide * f64::from(v)])
    });
    if let Some(sums) = at_once {
        return Ok(sums);
    }
    let mut sums = NormAndAlong::new(layout)?;
    for chunk in chunks(layout) {
        let difference = from_origin(&chunk, plus, origin)?;
        sums.add(&chunk, &difference, v)?;
        chunk.of(w)?.f_copy_(&difference)?;
    }
    sums.finish()
}

/// A piece of a gradient minus g₀.
fn from_origin(chunk: &Chunk, gradient: &[Tensor], origin: &Tensor) -> Result<Tensor, TchError> {
    let (gradient, origin) = (chunk.of_shard(gradient)?, chunk.of(origin)?);
    let kind = common_kind(&[&gradient, &origin]);
    gradient.f_to_kind(kind)?.f_sub(&origin.f_to_kind(kind)?)
}

/// This rank's parts of ‖x‖² and ⟨x, v⟩, collected piece by piece.
struct NormAndAlong {
    rows: Rows,
    sums: Sums<2>,
}

impl NormAndAlong {
    fn new(layout: &Layout) -> Result<Self, TchError> {
        Ok(Self { rows: Rows::new(layout, 2)?, sums: Sums::new() })
    }

    /// Adds a piece of x, where it is counted.
    fn add(&mut self, chunk: &Chunk, x: &Tensor, v: &Tensor) -> Result<(), TchError> {
        if chunk.counted {
            let rows = self.rows.fill(&[x, &chunk.of(v)?])?;
            self.sums.add(&rows, &rows.f_select(0, 0)?)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<[f64; 2], TchError> {
        self.sums.finish()
    }
}

/// The type in which differences of nearby numbers are taken: their own where it is one. That is exact
/// where they lie within a factor of two of each other, and otherwise as precise as the numbers are.
fn common_kind(tensors: &[&Tensor; 2]) -> Kind {
    let [a, b] = tensors.map(Tensor::kind);
    if a == b { a } else { Kind::Double }
}
