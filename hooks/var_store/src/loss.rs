//! What a closure may return.

use hessian_probe::HostError;
use tch::Tensor;

/// What the closure of a [`VarStoreHost`](crate::VarStoreHost) returns: a tensor of one number, or a `Result` of one.
///
/// ```
/// use hessian_probe::Host;
/// use hessian_probe_var_store::VarStoreHost;
/// use tch::{Device, Kind, nn};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let w = vs.root().ones("w", &[3]);
/// // By methods that panic, or by those that return errors.
/// let mut plain = VarStoreHost::new(&vs, || w.square().sum(Kind::Float))?;
/// let mut checked = VarStoreHost::new(&vs, || w.f_square()?.f_sum(Kind::Float))?;
/// assert_eq!((plain.loss()?, checked.loss()?), (3.0, 3.0));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub trait Loss: private::Sealed {
    /// The loss.
    ///
    /// # Errors
    /// The closure's own.
    fn into_loss(self) -> Result<Tensor, HostError>;
}

impl Loss for Tensor {
    fn into_loss(self) -> Result<Tensor, HostError> {
        Ok(self)
    }
}

impl<E: Into<HostError>> Loss for Result<Tensor, E> {
    fn into_loss(self) -> Result<Tensor, HostError> {
        self.map_err(Into::into)
    }
}

mod private {
    pub trait Sealed {}

    impl Sealed for tch::Tensor {}

    impl<E> Sealed for Result<tch::Tensor, E> {}
}
