//! What the trainer tells of its optimizer.

use super::Trainer;
use crate::error::Result;
use crate::optimizer::AdamWConfig;
use crate::sharding::split_shards;
use hessian_probe::{Optimizer, OptimizerKind};

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
}
