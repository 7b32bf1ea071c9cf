//! The Hessian as an adaptive optimizer sees it.

use crate::error::{Error, Result};
use crate::krylov::{Operator, Product, Wrapper};
use crate::operator::step::ratio;
use crate::optimizer::Preconditioner;
use crate::sharded::vector::{ShardedVector, number};
use tch::{TchError, Tensor};

const PRECONDITIONING: &str = "preconditioning a Lanczos vector";

/// SHS with S = P^{-1/2} on the parameters that the optimizer moves and 0 elsewhere, from products with H (and
/// S(H + W)S with decay W that is part of the gradient). Two all_reduces a product, and one vector of memory.
///
/// Sq is no unit vector, and steps of differences are chosen for unit vectors: the product is taken along Sq/‖Sq‖ and
/// scaled back. Such vectors lean to parameters with small gradients, whose curvature is not that of other vectors:
/// what H remembers of it is to be [exchanged](Operator::exchange_curvature) before and after.
pub struct Preconditioned<'a, O: Operator + ?Sized> {
    /// H.
    inner: &'a mut O,
    preconditioner: &'a Preconditioner,
    /// Sq/‖Sq‖.
    scaled: Tensor,
    /// √(‖S‖_F²/n): what S makes of noise that is alike in all parameters that are moved.
    spread: f64,
    moved: u64,
    /// ‖H Sq‖ over ‖SH Sq‖ of the last product.
    last: Option<f64>,
}

impl<'a, O: Operator + ?Sized> Preconditioned<'a, O> {
    /// Around H, with `start` restricted to the parameters that are moved, and normalised. Collective.
    ///
    /// # Errors
    /// [`Error::NotYet`] where no parameter has a second moment; [`Error::NonFinite`] where some are not finite.
    pub fn new(inner: &'a mut O, preconditioner: &'a Preconditioner, start: &Tensor) -> Result<Self> {
        let rank = inner.rank();
        let allocated = ShardedVector::zeros(inner.layout());
        let restricted = preconditioner.restrict(inner.layout(), start);
        let local = allocated.and_then(|scaled| Ok((scaled, restricted?)));
        let (scaled, local) = match local {
            Ok((scaled, sums)) => (Some(scaled.into_tensor()), Ok(sums.to_vec())),
            Err(error) => (None, Err(error)),
        };
        let sums = inner.sum(PRECONDITIONING, 3, local)?;
        let [moved, squared, size] = [sums[0], sums[1], sums[2]];
        if moved == 0.0 {
            return Err(Error::NotYet("every second moment is 0: no gradient has been other than 0".into()));
        }
        if !(squared > 0.0 && size.is_finite()) {
            return Err(Error::NonFinite { rank, what: "a second moment", during: PRECONDITIONING });
        }
        let normalised = scale(start, squared.sqrt().recip());
        inner.defer(PRECONDITIONING, normalised);
        Ok(Self {
            inner,
            preconditioner,
            scaled: scaled.unwrap_or_else(Tensor::new),
            spread: (size / moved).sqrt(),
            moved: moved as u64,
            last: None,
        })
    }

    /// The parameters that the optimizer moves, over all ranks.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// What is remembered of the last product: by how much S stretches it.
    pub(crate) fn last(&self) -> Option<f64> {
        self.last
    }

    /// The last product was another process's, which remembered this of it.
    pub(crate) fn go_on_from(&mut self, last: Option<f64>) {
        self.last = last;
    }
}

/// In place.
fn scale(vector: &Tensor, factor: f64) -> Result<(), TchError> {
    let _no_grad = tch::no_grad_guard();
    vector.shallow_clone().f_mul_(&number(factor, vector)?).map(drop)
}

impl<O: Operator + ?Sized> Wrapper for Preconditioned<'_, O> {
    type Inner = O;

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
        let rank = self.inner.rank();
        let finite = |value: f64| {
            let error = Error::NonFinite { rank, what: "a preconditioned vector", during: PRECONDITIONING };
            if value.is_finite() { Ok(()) } else { Err(error) }
        };
        let local = self.preconditioner.apply(self.inner.layout(), q, &self.scaled);
        let sums = self.inner.sum(PRECONDITIONING, 1, local.map(|[scaled, _]| vec![scaled]))?;
        finite(sums[0])?;
        let length = sums[0].sqrt();
        if length == 0.0 {
            // q has left the parameters that are moved, or is 0: so is the product.
            self.inner.defer(PRECONDITIONING, scale(target, 0.0));
            return Ok(Product { scale: 1.0, alpha: 0.0, norm: 0.0, error: 0.0 });
        }
        let normalised = scale(&self.scaled, length.recip());
        self.inner.defer(PRECONDITIONING, normalised);
        let expected = expected_norm.zip(self.last).map(|(norm, last)| norm * last / length);
        let product = self.inner.apply(index, &self.scaled, expected, target)?;
        let scale = product.scale * length;
        let local = self.preconditioner.complete(self.inner.layout(), q, scale.recip(), target);
        let sums = self.inner.sum(PRECONDITIONING, 2, local.map(|sums| sums.to_vec()))?;
        finite(sums[0])?;
        let norm = scale.abs() * sums[0].sqrt();
        self.last = (norm > 0.0).then(|| length * product.norm / norm);
        // What is truncated is like the product itself, what is noise is alike everywhere: the error is some of each.
        let stretched = ratio(norm, length * product.norm).max(self.spread);
        Ok(Product {
            scale,
            alpha: length.powi(2) * product.alpha + sums[1],
            norm,
            error: length * stretched * product.error,
        })
    }
}
