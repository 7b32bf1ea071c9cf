//! P = diag(√v̂ + ε), from the loop's own second moments, as the optimizer divides by it.

use super::loan::{Optimizer, OptimizerKind};
use super::threshold::correction;
use crate::host::Shard;
use crate::sharded::layout::Layout;
use crate::sharded::sums::{Rows, Sums};
use crate::sharded::vector::{Chunk, chunks, number};
use tch::{Kind, TchError, Tensor};

/// S = P^{-1/2} on the parameters that the optimizer moves, 0 on the others, and the decay that is part of the gradient.
/// Keeps aliases of the second moments and nothing of their size: S is computed piece by piece, in f64, where it is used.
///
/// # Parameters without a second moment
/// v̂ = 0 is the mark of a parameter whose every gradient so far was 0: a row of an embedding whose token never came.
/// P there would be ε, and P^{-1/2}HP^{-1/2} some 1/ε times the curvature that the *probe's* batch has along it. That is
/// nothing that the optimizer sees. As long as the gradient stays 0 the parameter stays where it is; with the first one
/// that is not, v̂ is of the size of its square. So such parameters are left out: the operator is the one on the subspace
/// that the optimizer moves in, and a snapshot tells how many parameters that is.
#[derive(Debug)]
pub struct Preconditioner {
    second_moments: Vec<Tensor>,
    /// 1 − β₂ᵗ.
    correction: f64,
    eps: f64,
    /// w of each shard where it is added to the gradient; empty where none is.
    decay: Vec<f64>,
}

impl Preconditioner {
    /// P of an optimizer that lends second moments for these shards, after its `steps` steps.
    ///
    /// # Errors
    /// The reason why there is none, for a rule without second moments, before the first step, or for a loan that does
    /// not fit the shards.
    pub fn new(optimizer: &Optimizer, shards: &[Shard]) -> Result<Self, String> {
        let Some(((_, beta2), eps)) = optimizer.kind.adaptive() else {
            return Err(format!("{} has no second moments", optimizer.kind.name()));
        };
        if let Some(fault) = optimizer.fault(shards) {
            return Err(fault);
        }
        if optimizer.steps == 0 || optimizer.second_moments.is_empty() {
            return Err("the optimizer has taken no step, and has no second moments yet".into());
        }
        // Decay of AdamW is no part of the gradient: the threshold accounts for it.
        let added = matches!(optimizer.kind, OptimizerKind::Adam { .. }) && optimizer.largest_decay() > 0.0;
        Ok(Self {
            second_moments: optimizer.second_moments.iter().map(Tensor::shallow_clone).collect(),
            correction: correction(beta2, Some(optimizer.steps)),
            eps,
            decay: if added { optimizer.weight_decay.clone() } else { Vec::new() },
        })
    }

    /// v of each shard, as the optimizer keeps it.
    pub(crate) fn second_moments(&self) -> &[Tensor] {
        &self.second_moments
    }

    /// 1 − β₂ᵗ.
    pub(crate) fn correction(&self) -> f64 {
        self.correction
    }

    /// A piece of S, in f64.
    fn piece(&self, chunk: &Chunk) -> Result<Tensor, TchError> {
        let v = chunk.of_shard(&self.second_moments)?.f_to_kind(Kind::Double)?;
        let zero = number(0.0, &v)?;
        let root = v.f_div(&number(self.correction, &v)?)?.f_sqrt()?;
        let root = root.f_add(&number(self.eps, &v)?)?.f_rsqrt()?;
        // A NaN among the moments must not pass for a parameter that is not moved.
        root.f_where_self(&v.f_eq_tensor(&zero)?.f_logical_not()?, &zero)
    }

    /// target ← Sq. Returns this rank's parts of ‖Sq‖² and ‖q‖².
    pub(crate) fn apply(&self, layout: &Layout, q: &Tensor, target: &Tensor) -> Result<[f64; 2], TchError> {
        let _no_grad = tch::no_grad_guard();
        let (mut scaled_sums, mut sums) = (Sums::<1>::new(), Sums::<1>::new());
        for chunk in chunks(layout) {
            let q = chunk.of(q)?.f_to_kind(Kind::Double)?;
            let scaled = self.piece(&chunk)?.f_mul(&q)?;
            if chunk.counted {
                scaled_sums.add_square(&scaled)?;
                sums.add_square(&q)?;
            }
            chunk.of(target)?.f_copy_(&scaled)?;
        }
        Ok([scaled_sums.finish()?[0], sums.finish()?[0]])
    }

    /// w ← Sw + `share`·SWSq, W the decay that is part of the gradient. Returns this rank's parts of ‖w‖² and
    /// qᵀSWSq.
    pub(crate) fn complete(
        &self,
        layout: &Layout,
        q: &Tensor,
        share: f64,
        w: &Tensor,
    ) -> Result<[f64; 2], TchError> {
        let _no_grad = tch::no_grad_guard();
        let (mut squares, mut along) = (Sums::<1>::new(), Sums::<1>::new());
        let rows = Rows::new(layout, 1)?;
        for chunk in chunks(layout) {
            let mut target = chunk.of(w)?;
            let s = self.piece(&chunk)?;
            let mut scaled = s.f_mul(&target.f_to_kind(Kind::Double)?)?;
            if let Some(&decay) = self.decay.get(chunk.shard).filter(|decay| **decay > 0.0) {
                let q = chunk.of(q)?.f_to_kind(Kind::Double)?;
                let decayed = s.f_square()?.f_mul_(&number(decay, &s)?)?.f_mul_(&q)?;
                if chunk.counted {
                    along.add(&rows.fill(&[&decayed])?, &q)?;
                }
                scaled = scaled.f_add(&decayed.f_mul(&number(share, &s)?)?)?;
            }
            if chunk.counted {
                squares.add_square(&scaled)?;
            }
            target.f_copy_(&scaled)?;
        }
        Ok([squares.finish()?[0], along.finish()?[0]])
    }

    /// target ← target on the parameters that are moved, 0 on the others. Returns this rank's parts of how many are
    /// moved, of ‖target‖² and of ‖S‖_F².
    pub(crate) fn restrict(&self, layout: &Layout, target: &Tensor) -> Result<[f64; 3], TchError> {
        let _no_grad = tch::no_grad_guard();
        let (mut moved, mut squares, mut sizes) = (Sums::<1>::new(), Sums::<1>::new(), Sums::<1>::new());
        for chunk in chunks(layout) {
            let mut target = chunk.of(target)?;
            let s = self.piece(&chunk)?;
            let kept = s.f_ne_tensor(&number(0.0, &s)?)?.f_to_kind(Kind::Double)?;
            let restricted = kept.f_mul(&target.f_to_kind(Kind::Double)?)?;
            if chunk.counted {
                moved.add_square(&kept)?;
                squares.add_square(&restricted)?;
                sizes.add_square(&s)?;
            }
            target.f_copy_(&restricted)?;
        }
        Ok([moved.finish()?[0], squares.finish()?[0], sizes.finish()?[0]])
    }
}
