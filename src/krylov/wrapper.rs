//! Operators around another one.

use crate::error::Result;
use crate::krylov::lanczos::{Operator, Product};
use crate::sharded::layout::Layout;
use tch::{TchError, Tensor};

/// An operator whose products are made of another one's, and which is an [`Operator`] by that: what ranks tell each
/// other, and what is remembered of the curvature, is the other one's business.
pub trait Wrapper {
    /// The other one.
    type Inner: Operator + ?Sized;

    /// The other one.
    fn inner(&self) -> &Self::Inner;

    /// The other one.
    fn inner_mut(&mut self) -> &mut Self::Inner;

    /// [`Operator::layout`]; that of the other one, where nothing else is said.
    fn wrapped_layout(&self) -> &Layout {
        self.inner().layout()
    }

    /// [`Operator::apply`]. Collective.
    ///
    /// # Errors
    /// As the operator says.
    fn product(
        &mut self,
        index: usize,
        q: &Tensor,
        expected_norm: Option<f64>,
        target: &mut Tensor,
    ) -> Result<Product>;
}

impl<W: Wrapper> Operator for W {
    fn layout(&self) -> &Layout {
        self.wrapped_layout()
    }

    fn apply(
        &mut self,
        index: usize,
        q: &Tensor,
        expected_norm: Option<f64>,
        target: &mut Tensor,
    ) -> Result<Product> {
        self.product(index, q, expected_norm, target)
    }

    fn sum(
        &mut self,
        during: &'static str,
        len: usize,
        local: Result<Vec<f64>, TchError>,
    ) -> Result<Vec<f64>> {
        self.inner_mut().sum(during, len, local)
    }

    fn defer(&mut self, during: &'static str, local: Result<(), TchError>) {
        self.inner_mut().defer(during, local);
    }

    fn rank(&self) -> usize {
        self.inner().rank()
    }

    fn exchange_curvature(&mut self, memory: &mut Vec<(f64, f64)>) {
        self.inner_mut().exchange_curvature(memory);
    }
}
