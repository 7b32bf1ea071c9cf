//! How often blocks are gathered and reduced.

use super::PassConfig;
use crate::model::BlockSpec;
use hessian_probe::cost;

/// What one gradient of a micro-batch gathers and reduces, for the [law of costs](cost): the head runs once, any other
/// block forward and, where it runs again, for its backward pass; a block that borrows from another gathers and reduces
/// that one, too.
#[must_use]
pub fn passes(blocks: &[BlockSpec], config: PassConfig) -> Vec<cost::Block> {
    let head = blocks.len().saturating_sub(1);
    let runs = |block: usize| if config.recompute && block < head { 2 } else { 1 };
    let mut passes: Vec<cost::Block> = (blocks.iter().enumerate())
        .map(|(number, block)| cost::Block {
            parameters: block.numel() as u64,
            tensors: block.parameters.len() as u64,
            gathers: runs(number),
            reductions: 1,
        })
        .collect();
    for (number, block) in blocks.iter().enumerate() {
        if let Some(lender) = block.borrows.and_then(|lender| passes.get_mut(lender)) {
            lender.gathers += runs(number);
            lender.reductions += 1;
        }
    }
    passes
}
