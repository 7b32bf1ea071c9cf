//! Where the Hessian is taken.

use crate::error::{Error, Result};
use crate::host::Host;
use tch::{Kind, TchError, Tensor};

/// Rounds the host's parameters to `kind`, for good; they stay of their own type.
///
/// A host that computes in bf16 has the loss of the rounded parameters: that is where a reference for it must stand.
///
/// # Errors
/// [`Error::Torch`] when memory is short.
pub fn round_parameters(host: &dyn Host, kind: Kind) -> Result<()> {
    each(host, |tensor, rounded| tensor.shallow_clone().f_copy_(rounded), kind)
}

/// Whether the host's parameters, on this rank, are numbers of type `kind`, so that rounding them to it changes nothing.
///
/// # Errors
/// As [`round_parameters`].
pub fn parameters_are(host: &dyn Host, kind: Kind) -> Result<bool> {
    let mut are = true;
    each(host, |tensor, rounded| tensor.f_equal(rounded).map(|equal| are &= equal), kind)?;
    Ok(are)
}

/// Shows `each` every parameter and what rounding makes of it, in its own type.
fn each<T>(
    host: &dyn Host,
    mut each: impl FnMut(&Tensor, &Tensor) -> Result<T, TchError>,
    kind: Kind,
) -> Result<()> {
    let rank = host.group().rank();
    let mut round = || -> Result<(), TchError> {
        let _no_grad = tch::no_grad_guard();
        for shard in host.shards() {
            let own = shard.tensor.f_kind()?;
            each(&shard.tensor, &shard.tensor.f_to_kind(kind)?.f_to_kind(own)?)?;
        }
        Ok(())
    };
    round().map_err(|source| Error::Torch { rank, during: "rounding the parameters", source })
}
