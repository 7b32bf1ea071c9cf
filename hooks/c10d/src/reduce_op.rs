//! How contributions are combined.

use std::fmt;

/// How contributions of the ranks are combined, element by element.
///
/// ```
/// use hessian_probe_c10d::{ProcessGroup, ReduceOp};
/// use tch::Tensor;
///
/// let group = ProcessGroup::single();
/// let loss = Tensor::from_slice(&[2.5]);
/// group.all_reduce(&loss, ReduceOp::Avg)?;
/// assert_eq!((loss, ReduceOp::Avg.to_string()), (Tensor::from_slice(&[2.5]), "avg".into()));
/// # Ok::<(), hessian_probe_c10d::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// Their mean; float dtypes only.
    Avg,
}

impl ReduceOp {
    pub(crate) const ALL: [Self; 4] = [Self::Sum, Self::Max, Self::Min, Self::Avg];

    /// `c10d::ReduceOp::RedOpType`.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Sum => 0,
            Self::Avg => 1,
            Self::Min => 3,
            Self::Max => 4,
        }
    }
}

impl fmt::Display for ReduceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
            Self::Avg => "avg",
        })
    }
}
