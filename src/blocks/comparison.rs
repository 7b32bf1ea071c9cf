//! Hv beside H_bd v.

use super::direction::{Direction, clear};
use super::sums::Blocks;
use crate::error::Result;
use crate::krylov::lanczos::agree;
use crate::krylov::{Operator, Product};
use crate::sharded::layout::Layout;
use crate::sharded::vector::ShardedVector;
use tch::{TchError, Tensor};

pub(super) const COMPARING: &str = "comparing the Hessian with its diagonal blocks";

/// What one unit vector v says; by the stochastic method, what a group of draws says of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// ‖Hv‖².
    pub(super) full: f64,
    /// ‖Hv − H_bd v‖².
    pub(super) difference: f64,
    /// For each block ⟨Hv, H_bd v⟩ over it, …
    pub(super) along: Vec<f64>,
    /// ‖H_bd v‖² over it, …
    pub(super) square: Vec<f64>,
    /// vᵀP_bHP_bv, …
    pub(super) curvature: Vec<f64>,
    /// and the predicted norm of the error of P_bHP_bv.
    pub(super) errors: Vec<f64>,
    /// The predicted norms of the errors of Hv and H_bd v.
    pub(super) error: [f64; 2],
    /// E‖S H S v‖² over signs, by the stochastic method.
    pub(super) drawn: Option<f64>,
}

/// Vectors and bookkeeping of all comparisons.
pub(super) struct Comparer<'a> {
    operator: &'a mut dyn Operator,
    blocks: Blocks,
    count: usize,
    /// The direction of a product.
    q: Tensor,
    /// Hv, up to a factor.
    y: Tensor,
    /// The sum of the draws of a group.
    drawn: Option<Tensor>,
    w: &'a mut Tensor,
    /// What is known of the curvature along v, and along P_b v for each block: all Rademacher vectors share it.
    memories: Vec<Vec<(f64, f64)>>,
    pub(super) hvps: u64,
}

impl<'a> Comparer<'a> {
    /// Two vectors are allocated, by the stochastic method three.
    pub(super) fn new(
        operator: &'a mut dyn Operator,
        layout: &Layout,
        count: usize,
        block_of: impl Fn(usize) -> Option<usize>,
        exact: bool,
        w: &'a mut Tensor,
    ) -> Result<Self> {
        let zeros = || ShardedVector::zeros(layout).map(ShardedVector::into_tensor);
        let allocated = (|| {
            let drawn = if exact { None } else { Some(zeros()?) };
            Ok((Blocks::new(layout, count, block_of)?, zeros()?, zeros()?, drawn))
        })();
        let (blocks, q, y, drawn) = agree(operator, COMPARING, allocated)?;
        let memories = vec![Vec::new(); 1 + count];
        Ok(Self { operator, blocks, count, q, y, drawn, w, memories, hvps: 0 })
    }

    /// What is known of one kind of vector says nothing of another.
    pub(super) fn forget(&mut self) {
        self.memories.iter_mut().for_each(Vec::clear);
    }

    /// For each block the norm of a vector over it.
    pub(super) fn norms(&mut self, vector: &Tensor) -> Result<Vec<f64>> {
        let local = (0..self.count).map(|b| Ok(self.blocks.products(b, [vector])?[0])).collect();
        let squares = self.operator.sum(COMPARING, self.count, local)?;
        Ok(squares.into_iter().map(f64::sqrt).collect())
    }

    /// H times q, of which `memory` is what is known.
    fn product(&mut self, memory: usize) -> Result<Product> {
        let memory = &mut self.memories[memory];
        self.operator.exchange_curvature(memory);
        let product = self.operator.apply(0, &self.q, None, self.w);
        self.operator.exchange_curvature(memory);
        self.hvps += 1;
        product
    }

    /// A failure of this rank is kept until the next sum.
    fn or_default<T: Default>(&mut self, local: Result<T, TchError>) -> T {
        local.unwrap_or_else(|error| {
            self.operator.defer(COMPARING, Err(error));
            T::default()
        })
    }

    fn write(&mut self, direction: Direction<'_>, block: usize, scale: f64) {
        let written = direction.write(self.blocks.segments(block), scale, &self.q);
        self.or_default(written);
    }

    /// y ← Hv, up to the factor returned with its product.
    fn full(&mut self, direction: Direction<'_>, length: f64) -> Result<Product> {
        for block in 0..self.count {
            self.write(direction, block, length.recip());
        }
        let product = self.product(0)?;
        let copied = {
            let _no_grad = tch::no_grad_guard();
            self.y.f_copy_(self.w).map(drop)
        };
        self.or_default(copied);
        Ok(product)
    }

    /// A product for each block. `norms` are those of v = `direction` / `length` over the blocks.
    pub(super) fn exact(&mut self, direction: Direction<'_>, length: f64, norms: &[f64]) -> Result<Sample> {
        let full = self.full(direction, length)?;
        for block in 0..self.count {
            let cleared = clear(self.blocks.segments(block), &self.q);
            self.or_default(cleared);
        }
        let mut sample = Sample { error: [full.error, 0.0], ..Sample::default() };
        let mut local = Vec::with_capacity(4 * self.count);
        for (block, &norm) in norms.iter().enumerate() {
            let mut factor = 0.0;
            sample.curvature.push(0.0);
            sample.errors.push(0.0);
            if norm > 0.0 {
                self.write(direction, block, (length * norm).recip());
                let product = self.product(1 + block)?;
                factor = product.scale * norm;
                sample.curvature[block] = norm * norm * product.alpha;
                sample.errors[block] = norm * product.error;
                let cleared = clear(self.blocks.segments(block), &self.q);
                self.or_default(cleared);
            }
            let products = self.blocks.products(block, [&self.y, self.w]);
            let [full_squared, along] = self.or_default(products);
            let square = self.blocks.products(block, [self.w]);
            let [square] = self.or_default(square);
            let difference = self.blocks.difference(block, [full.scale, factor], [&self.y, self.w]);
            let difference = self.or_default(difference);
            local.extend([
                full.scale * full.scale * full_squared,
                full.scale * factor * along,
                factor * factor * square,
                difference,
            ]);
        }
        let reduced = self.operator.sum(COMPARING, local.len(), Ok(local))?;
        for sums in reduced.chunks_exact(4) {
            sample.full += sums[0];
            sample.along.push(sums[1]);
            sample.square.push(sums[2]);
            sample.difference += sums[3];
        }
        // Each product gives the entries of one block: their errors are orthogonal.
        sample.error[1] = sample.errors.iter().map(|error| error * error).sum::<f64>().sqrt();
        Ok(sample)
    }

    /// A product for each draw of signs: an unbiased sample from each of `groups` groups of at least two draws.
    pub(super) fn stochastic(
        &mut self,
        direction: Direction<'_>,
        length: f64,
        groups: usize,
        draws: usize,
    ) -> Result<Vec<Sample>> {
        let full = self.full(direction, length)?;
        let mut local = Vec::new();
        for block in 0..self.count {
            let squared = self.blocks.products(block, [&self.y]);
            let [squared] = self.or_default(squared);
            local.push(full.scale * full.scale * squared);
        }
        let mut errors = Vec::with_capacity(groups);
        for number in 0..groups {
            let cleared = self.drawn.as_mut().map_or(Ok(()), |drawn| drawn.f_zero_().map(drop));
            self.or_default(cleared);
            let mut group = vec![[0.0; 4]; self.count];
            let mut error = 0.0;
            for draw in 0..draws {
                let signs = direction.signs(number * draws + draw, self.count);
                error += self.draw(direction, length, full.scale, &signs, &mut group)?;
            }
            errors.push(error / draws as f64);
            local.extend(group.into_iter().flatten());
        }
        let reduced = self.operator.sum(COMPARING, local.len(), Ok(local))?;
        let (squares, rest) = reduced.split_at(self.count);
        let full_squared = squares.iter().sum();
        let size = draws as f64;
        let of_group = |(sums, error): (&[f64], f64)| {
            let column = |k: usize, factor: f64| sums.chunks_exact(4).map(move |sums| factor * sums[k]);
            let along: Vec<f64> = column(1, size.recip()).collect();
            let square: Vec<f64> = column(2, 2.0 / (size * (size - 1.0))).collect();
            Sample {
                full: full_squared,
                difference: full_squared - 2.0 * along.iter().sum::<f64>() + square.iter().sum::<f64>(),
                along,
                square,
                curvature: column(3, size.recip()).collect(),
                errors: vec![error; self.count],
                error: [full.error, error],
                drawn: Some(column(0, size.recip()).sum()),
            }
        };
        Ok(rest.chunks_exact(4 * self.count).zip(errors).map(of_group).collect())
    }

    /// One draw z = S H S v, added to those of its group. For each block ‖z‖², ⟨Hv, z⟩, ⟨z, the draws before it⟩
    /// and ⟨v, z⟩ over it are added to `sums`. Returns the predicted norm of its error.
    fn draw(
        &mut self,
        direction: Direction<'_>,
        length: f64,
        full_scale: f64,
        signs: &[f64],
        sums: &mut [[f64; 4]],
    ) -> Result<f64> {
        for (block, sign) in signs.iter().enumerate() {
            self.write(direction, block, sign / length);
        }
        let Product { scale, error, .. } = self.product(0)?;
        let Some(drawn) = self.drawn.as_ref().map(Tensor::shallow_clone) else { return Ok(error) };
        for (block, (sign, sums)) in signs.iter().zip(sums).enumerate() {
            let products = self.blocks.products(block, [self.w, &self.y, &drawn, &self.q]);
            let products = self.or_default(products);
            // z = sign · scale · w, and v = sign · q.
            let factors = [scale * scale, sign * scale * full_scale, sign * scale, scale];
            for ((sum, product), factor) in sums.iter_mut().zip(products).zip(factors) {
                *sum += factor * product;
            }
            let added = self.blocks.add(block, sign * scale, self.w, &drawn);
            self.or_default(added);
        }
        Ok(error)
    }
}
