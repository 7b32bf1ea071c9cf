//! What a closure may return.

use hessian_probe::HostError;
use tch::Tensor;

/// What the closure of a [`VarStoreHost`](crate::VarStoreHost) returns: a tensor of one number, or a `Result` of one.
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
