//! Products that somebody counts.

use crate::error::Result;
use crate::krylov::{Operator, Product};
use crate::operator::FiniteDifference;
use crate::progress::{BlocksProgress, Observer};
use crate::sharded::layout::Layout;
use tch::{TchError, Tensor};

/// An operator that tells an observer of each of its products.
pub(super) struct Observed<'o, 'a, 'h> {
    inner: &'o mut FiniteDifference<'a, 'h>,
    observer: &'o mut Observer,
    progress: BlocksProgress,
}

impl<'o, 'a, 'h> Observed<'o, 'a, 'h> {
    /// `planned` products are to be expected.
    pub(super) fn new(
        inner: &'o mut FiniteDifference<'a, 'h>,
        observer: &'o mut Observer,
        planned: u64,
    ) -> Self {
        Self { inner, observer, progress: BlocksProgress { hvps: 0, planned } }
    }
}

impl Operator for Observed<'_, '_, '_> {
    fn layout(&self) -> &Layout {
        self.inner.layout()
    }

    fn apply(
        &mut self,
        index: usize,
        q: &Tensor,
        expected_norm: Option<f64>,
        target: &mut Tensor,
    ) -> Result<Product> {
        let product = self.inner.apply(index, q, expected_norm, target)?;
        self.progress.hvps += 1;
        self.observer.compared(self.progress, self.inner.gradients());
        Ok(product)
    }

    fn sum(
        &mut self,
        during: &'static str,
        len: usize,
        local: Result<Vec<f64>, TchError>,
    ) -> Result<Vec<f64>> {
        self.inner.sum(during, len, local)
    }

    fn defer(&mut self, during: &'static str, local: Result<(), TchError>) {
        self.inner.defer(during, local);
    }

    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn exchange_curvature(&mut self, memory: &mut Vec<(f64, f64)>) {
        self.inner.exchange_curvature(memory);
    }
}
