//! Products that somebody counts.

use crate::error::Result;
use crate::krylov::{Operator, Product, Wrapper};
use crate::operator::FiniteDifference;
use crate::progress::{BlocksProgress, Observer};
use tch::Tensor;

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

impl<'a, 'h> Wrapper for Observed<'_, 'a, 'h> {
    type Inner = FiniteDifference<'a, 'h>;

    fn inner(&self) -> &Self::Inner {
        self.inner
    }

    fn inner_mut(&mut self) -> &mut Self::Inner {
        self.inner
    }

    fn product(
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
}
