//! What the trainer tells of its optimizer.

use super::Trainer;
use super::step::reduce;
use crate::error::{At, Result};
use crate::optimizer::{AdamWConfig, clip_coefficient, squared_norm};
use crate::sharding::split_shards;
use hessian_probe::{Optimizer, OptimizerKind, ReduceOp, Update};

impl Trainer {
    /// The learning rate of the step that comes next.
    pub(super) fn coming_learning_rate(&self) -> f64 {
        self.config.optimizer.lr * self.config.schedule.factor(self.step)
    }

    /// AdamW before its coming step, aligned with [`named_shards`](Self::named_shards).
    pub(super) fn lent_optimizer(&self) -> Result<Optimizer> {
        let (layouts, rank) = (self.engine.parameters().layouts(), self.group.rank());
        let AdamWConfig { betas, eps, .. } = *self.optimizer.config();
        let parameters = layouts.iter().flat_map(|layout| &layout.parameters);
        Ok(Optimizer {
            kind: OptimizerKind::AdamW { betas, eps },
            learning_rate: self.coming_learning_rate(),
            weight_decay: parameters
                .map(|parameter| self.optimizer.decay_of(&parameter.spec.shape))
                .collect(),
            steps: self.optimizer.steps(),
            second_moments: split_shards(layouts, self.optimizer.second_moments(), rank)?,
        })
    }

    /// The update that the optimizer would make of the gradient that waits for it, or else the last one that it made;
    /// `None` before the first. Collective.
    pub(super) fn lent_update(&self) -> Result<Option<Update>> {
        let (parameters, rank) = (self.engine.parameters(), self.group.rank());
        let coming = self.pending.is_some();
        let flat = if coming {
            let gradients = self.gradients.flat_shards();
            let mut squares = [squared_norm(gradients).at(rank, || "the gradient's norm")?];
            reduce(&self.group, &mut squares, ReduceOp::Sum, "reducing the gradient's norm")?;
            let clip = clip_coefficient(squares[0].sqrt(), self.config.optimizer.clip_norm);
            self.optimizer.coming_update(parameters, gradients, self.coming_learning_rate(), clip)?
        } else {
            let Some(last) = self.step.checked_sub(1).filter(|_| self.optimizer.steps() > 0) else {
                return Ok(None);
            };
            let lr = self.config.optimizer.lr * self.config.schedule.factor(last);
            let Some(flat) = self.optimizer.last_update(parameters, lr)? else { return Ok(None) };
            flat
        };
        Ok(Some(Update { tensors: split_shards(parameters.layouts(), &flat, rank)?, coming }))
    }
}
