//! Blocks as a pass runs them, the next one gathered while the present one computes.

use super::Engine;
use crate::error::Result;
use crate::sharding::{Gathered, Gathering};
use hessian_probe_c10d::ProcessGroup;

/// Gathers ahead. Dropping it waits for what is under way.
pub(super) struct Ahead<'a> {
    engine: &'a Engine,
    group: &'a ProcessGroup,
    /// A block, and its number.
    under_way: Option<(usize, Gathering<'a>)>,
    prefetch: bool,
}

impl<'a> Ahead<'a> {
    /// Nothing yet.
    pub(super) fn new(engine: &'a Engine, group: &'a ProcessGroup) -> Self {
        // Alone, nothing travels, and a cast would only come earlier than needed.
        let prefetch = engine.passes.prefetch && group.world_size() > 1;
        Self { engine, group, under_way: None, prefetch }
    }

    /// Block number `block`, with the one that it borrows from; the pass needs block number `then` after it. Collective.
    pub(super) fn take(
        &mut self,
        block: usize,
        then: Option<usize>,
        requires_grad: bool,
    ) -> Result<Gathered> {
        let gathering = match self.under_way.take().filter(|(number, _)| *number == block) {
            Some((_, gathering)) => gathering,
            None => self.engine.start_gather(self.group, block)?,
        };
        let gathered = gathering.finish(requires_grad)?;
        if let Some(then) = then.filter(|_| self.prefetch) {
            self.under_way = Some((then, self.engine.start_gather(self.group, then)?));
        }
        Ok(gathered)
    }
}
