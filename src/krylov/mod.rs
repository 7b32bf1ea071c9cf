//! Krylov spaces of an operator that is given by products only.
//!
//! - [`lanczos`]: the recurrence, from a start vector to the matrix T;
//! - [`omega`]: estimates of the vectors' orthogonality, and when to reorthogonalise;
//! - [`basis`]: the stored vectors, and orthogonalisation against them; `room`: what it has room for;
//! - [`deflated`]: the operator with some directions taken out;
//! - [`wrapper`]: operators around another one;
//! - `ritz`: Ritz vectors from a run and its basis;
//! - [`tridiagonal`]: eigenvalues of T and the rows of its eigenvector matrix that quadrature needs.

pub mod basis;
pub mod deflated;
pub mod lanczos;
pub mod omega;
pub(crate) mod ritz;
pub(crate) mod room;
pub mod tridiagonal;
pub mod wrapper;

pub use basis::Basis;
pub use lanczos::{Lanczos, LanczosRun, LanczosState, Operator, Product};
pub use tridiagonal::{Eigen, NoConvergence};
pub use wrapper::Wrapper;
