//! Blocks in the order in which a pass runs them, the next one gathered while the present one computes.

use super::Engine;
use crate::error::Result;
use crate::sharding::{Gathered, Gathering};
use hessian_probe_c10d::ProcessGroup;
use std::vec::IntoIter;

/// Gathers ahead. Dropping it waits for what is under way.
pub(super) struct Ahead<'a> {
    engine: &'a Engine,
    group: &'a ProcessGroup,
    order: IntoIter<usize>,
    next: Option<Gathering<'a>>,
    prefetch: bool,
}

impl<'a> Ahead<'a> {
    /// Blocks in `order`, one [`take`](Self::take) each.
    pub(super) fn new(engine: &'a Engine, group: &'a ProcessGroup, order: Vec<usize>) -> Self {
        // Alone, nothing travels, and a cast would only come earlier than needed.
        let prefetch = engine.passes.prefetch && group.world_size() > 1;
        Self { engine, group, order: order.into_iter(), next: None, prefetch }
    }

    /// The next block of the order, with the one that it borrows from. Collective.
    pub(super) fn take(&mut self, requires_grad: bool) -> Result<Gathered> {
        let present = match self.next.take() {
            Some(gathering) => gathering,
            None => self.engine.start_gather(self.group, self.order.next().unwrap_or_default())?,
        };
        let gathered = present.finish(requires_grad)?;
        if self.prefetch
            && let Some(block) = self.order.next()
        {
            self.next = Some(self.engine.start_gather(self.group, block)?);
        }
        Ok(gathered)
    }
}
