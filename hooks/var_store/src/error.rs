//! What can go wrong, where, and what to do about it.

use hessian_probe::HostError;
use tch::TchError;

/// An error of a host on a `VarStore`. In a probe it comes inside of [`hessian_probe::Error::Host`], which says the
/// rank and what was being computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to differentiate with respect to.
    #[error(
        "none of the store's {variables} variables requires a gradient; make the host after the model, with at least \
         one parameter that is not frozen"
    )]
    NothingTrainable {
        /// How many variables the store has.
        variables: usize,
    },

    /// A parameter was frozen since the host was made.
    #[error(
        "parameter `{parameter}` does not require a gradient any more; after freezing, make the host and the probe anew"
    )]
    Frozen {
        /// Its name.
        parameter: String,
    },

    /// The closure returned an error.
    #[error("the closure that computes the loss of the probe batch failed: {0}")]
    Closure(#[source] HostError),

    /// The closure's loss is not one number.
    #[error(
        "the closure returned a loss of shape {shape:?} and kind {kind:?}; it must be one floating-point number: take the \
         mean over the probe batch"
    )]
    NotScalar {
        /// Its shape.
        shape: Vec<i64>,
        /// Its kind.
        kind: tch::Kind,
    },

    /// The closure's loss has no graph.
    #[error(
        "the closure's loss depends on no parameter; was it detached, or computed without gradients, or with another model \
         than the store's?"
    )]
    NoGraph,

    /// The closure's loss is NaN or infinite.
    #[error(
        "the closure's loss is {loss}; where the loop's own loss is finite, look at the probe batch, else probe before \
         training diverges"
    )]
    NonFinite {
        /// The loss.
        loss: f64,
    },

    /// A product was asked for with something that is not of the parameters' shape.
    #[error("{given} tensors given for {parameters} parameters, or not of their sizes")]
    Misaligned {
        /// How many came.
        given: usize,
        /// How many there must be.
        parameters: usize,
    },

    /// Another rank failed in the same evaluation.
    #[error("rank {failed} failed in the same evaluation; its own error says why")]
    Peer {
        /// The lowest rank that failed.
        failed: usize,
    },

    /// The ranks do not hold the same parameters.
    #[error(
        "parameter `{parameter}` is not the same on all ranks; start them from the same values (broadcast those of rank 0) \
         and reduce their gradients before each step of the optimizer"
    )]
    ReplicasDiffer {
        /// Its name.
        parameter: String,
    },

    /// A collective failed.
    #[error("all_reduce of {what} failed, a peer may be lost: {source}")]
    Communication {
        /// What was reduced.
        what: &'static str,
        /// The transport's own words.
        source: HostError,
    },

    /// A derivative failed, or a generator's state could not be kept.
    #[error("{during}: {source}")]
    Derivative {
        /// What was computed.
        during: &'static str,
        /// What happened.
        source: hessian_probe_c10d::Error,
    },

    /// libtorch reported an error in the host's own work.
    #[error("libtorch failed in {during}: {source}")]
    Torch {
        /// What was computed.
        during: &'static str,
        /// libtorch's own words.
        source: TchError,
    },
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says what was computed when libtorch failed, or a derivative or a generator's state. Also for hosts of loops that keep their
/// parameters elsewhere than in a store.
///
/// ```
/// use hessian_probe_var_store::During;
/// use tch::Tensor;
///
/// let (two, three) = (Tensor::from_slice(&[1.0, 2.0]), Tensor::from_slice(&[1.0, 2.0, 3.0]));
/// let error = two.f_add(&three).during("adding a vector").unwrap_err().to_string();
/// assert!(error.starts_with("libtorch failed in adding a vector: "), "{error}");
/// ```
pub trait During<T> {
    /// The value, or [`Error::Torch`] or [`Error::Derivative`] with these words.
    ///
    /// # Errors
    /// Where there was one.
    fn during(self, during: &'static str) -> Result<T>;
}

impl<T> During<T> for Result<T, TchError> {
    fn during(self, during: &'static str) -> Result<T> {
        self.map_err(|source| Error::Torch { during, source })
    }
}

impl<T> During<T> for Result<T, hessian_probe_c10d::Error> {
    fn during(self, during: &'static str) -> Result<T> {
        self.map_err(|source| Error::Derivative { during, source })
    }
}
