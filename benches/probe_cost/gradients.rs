//! How long a gradient takes in each way to compute it, in turn within one process.

use crate::Result;
use crate::case::Case;
use crate::report::median;
use crate::support::lent::Lent;
use hessian_probe::Host;
use hessian_probe_c10d::ProcessGroup;
use hessian_probe_c10d::autograd::{GradOptions, grad};
use hessian_probe_fsdp::model::cross_entropy_sum;
use hessian_probe_fsdp::sharding::{Gathered, ShardedParameters};
use hessian_probe_fsdp::{Batch, Llama, PassConfig};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Instant;
use tch::{Device, Kind, Tensor, no_grad, with_grad};

/// Seconds of each gradient; the ways are in the same order in each round.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Gradients {
    /// Of whole parameters, blocks run again; one rank only.
    pub unsharded: Vec<f64>,
    /// As by default.
    pub sharded: Vec<f64>,
    /// With the next block's gather under way.
    pub ahead: Vec<f64>,
    /// With graphs kept in place of running blocks again.
    pub kept: Vec<f64>,
}

impl Gradients {
    /// One way over another, of medians.
    pub fn ratio(one: &[f64], other: &[f64]) -> f64 {
        median(one) / median(other)
    }
}

pub fn measure(case: &Case, rounds: usize) -> Result<Gradients> {
    let group = Rc::new(case.group()?);
    tch::set_num_threads(i32::try_from(case.threads)?);
    let default = PassConfig::default();
    let lent =
        |passes| Lent::new(case.model.config(), [case.sequences, case.tokens], passes, Rc::clone(&group));
    let mut sharded = lent(default)?;
    let mut ahead = lent(PassConfig { prefetch: true, ..default })?;
    let mut kept = lent(PassConfig { recompute: false, ..default })?;
    let unsharded = if group.world_size() == 1 { Some(Unsharded::new(case, &group)?) } else { None };
    let mut found = Gradients::default();
    for round in 0..=rounds {
        let mut add = |to: fn(&mut Gradients) -> &mut Vec<f64>, seconds: f64| {
            // The first round makes buffers.
            if round > 0 {
                to(&mut found).push(seconds);
            }
        };
        if let Some(unsharded) = &unsharded {
            add(|found| &mut found.unsharded, seconds(&group, || unsharded.gradient(sharded.batch()))?);
        }
        add(|found| &mut found.sharded, seconds(&group, || sharded.gradient().map(drop))?);
        add(|found| &mut found.ahead, seconds(&group, || ahead.gradient().map(drop))?);
        add(|found| &mut found.kept, seconds(&group, || kept.gradient().map(drop))?);
    }
    Ok(found)
}

/// From when all ranks begin until all are done.
fn seconds(group: &ProcessGroup, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    group.barrier()?;
    let started = Instant::now();
    work()?;
    group.barrier()?;
    Ok(started.elapsed().as_secs_f64())
}

/// A loop that knows of no shards, with activation checkpointing at the same blocks.
struct Unsharded {
    model: Llama,
    /// Of each block, with what it borrows.
    parameters: Vec<Gathered>,
}

impl Unsharded {
    fn new(case: &Case, group: &ProcessGroup) -> Result<Self> {
        let model = Llama::new(case.model.config(), Kind::Float, Device::Cpu)?;
        let whole = ShardedParameters::initialized(&model, 0, 1, 1)?;
        let parameters = (0..model.blocks().len()).map(|block| whole.gather(group, block, true));
        Ok(Self { parameters: parameters.collect::<std::result::Result<_, _>>()?, model })
    }

    /// One tensor for each parameter, as autograd leaves them.
    fn gradient(&self, batch: &Batch) -> Result<()> {
        let head = self.parameters.len() - 1;
        let run = |block: usize, input: &Tensor| {
            self.model.run(block, self.parameters[block].parameters(), input, false)
        };
        let mut inputs = vec![batch.inputs.shallow_clone()];
        for block in 0..head {
            inputs.push(no_grad(|| run(block, &inputs[block]))?);
        }
        let mut gradients: Vec<Vec<Tensor>> = Vec::new();
        let (mut seed, mut borrowed): (Option<Tensor>, _) = (None, None);
        for block in (0..=head).rev() {
            let input = inputs.pop().ok_or("an input")?;
            let input = if block > 0 { input.f_detach()?.f_set_requires_grad(true)? } else { input };
            let output = with_grad(|| match (block == head, run(block, &input)) {
                (true, Ok(logits)) => cross_entropy_sum(&logits, &batch.labels),
                (_, output) => output,
            })?;
            let own = self.parameters[block].parameters();
            let leaves: Vec<&Tensor> = (block > 0).then_some(&input).into_iter().chain(own).collect();
            let found = grad(&[&output], &leaves, &[seed.as_ref()], GradOptions::default())?;
            let mut found: Vec<Tensor> = found.into_iter().flatten().collect();
            seed = (block > 0).then(|| found.remove(0));
            if let Some(lender) = self.model.blocks()[block].borrows {
                let lent = found.split_off(self.model.blocks()[block].parameters.len());
                borrowed = Some((lender, lent));
            }
            if let Some((_, lent)) = borrowed.take_if(|(lender, _)| *lender == block) {
                for (own, lent) in found.iter_mut().zip(lent) {
                    let _ = own.f_add_(&lent)?;
                }
            }
            gradients.push(found);
        }
        Ok(())
    }
}
