//! An operator with some directions taken out.

use crate::error::Result;
use crate::krylov::basis::Basis;
use crate::krylov::lanczos::{Operator, Product};
use crate::krylov::wrapper::Wrapper;
use tch::Tensor;

const DEFLATING: &str = "deflating a Lanczos vector";

/// PHP with P = I − YYᵀ, Y orthonormal vectors that every start vector is orthogonal to. One all_reduce a product.
pub struct Deflated<'a> {
    /// H.
    pub inner: &'a mut dyn Operator,
    /// Y.
    pub vectors: &'a mut Basis,
}

/// Yᵀw and ‖w‖². Collective.
pub(crate) fn coefficients(
    operator: &mut dyn Operator,
    vectors: &Basis,
    w: &mut Tensor,
) -> Result<(Vec<f64>, f64)> {
    let local = vectors.combine_and_project(w, 1.0, &[], true);
    let mut values = operator.sum(DEFLATING, vectors.stored() + 1, local)?;
    let squared = values.pop().unwrap_or(0.0);
    Ok((values, squared))
}

impl<'a> Wrapper for Deflated<'a> {
    type Inner = dyn Operator + 'a;

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
        let (removed, squared) = coefficients(self.inner, self.vectors, target)?;
        self.inner.defer(DEFLATING, self.vectors.subtract(target, &removed, None));
        let left = squared - removed.iter().map(|c| c * c).sum::<f64>();
        // qᵀPHPq = qᵀHq, as q is orthogonal to Y.
        Ok(Product { norm: product.scale.abs() * left.max(0.0).sqrt(), ..product })
    }
}
