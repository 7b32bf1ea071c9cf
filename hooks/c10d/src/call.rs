//! One call of a collective: whether it can be done at all, and what the other ranks must call for it to
//! be the same one.

use crate::reduce_op::ReduceOp;
use std::fmt;
use tch::{Device, Kind, Tensor};

/// The dtypes that Gloo and NCCL both reduce; their place here is their number in a packet.
const DTYPES: [Kind; 7] =
    [Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half, Kind::Int64, Kind::Int, Kind::Uint8];

const COLLECTIVES: [&str; 6] =
    ["connect", "all_reduce", "all_gather_into", "reduce_scatter_into", "broadcast", "barrier"];

const NONE: u8 = u8::MAX;

/// A collective and its tensors on this rank.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    /// The first exchange of a group, whose ranks must check alike: 0 always, 1 first calls only.
    Connect {
        trusting: bool,
    },
    AllReduce {
        tensor: &'a Tensor,
        op: ReduceOp,
    },
    AllGather {
        output: &'a Tensor,
        input: &'a Tensor,
    },
    ReduceScatter {
        output: &'a Tensor,
        input: &'a Tensor,
        op: ReduceOp,
    },
    Broadcast {
        tensor: &'a Tensor,
        root: usize,
    },
    Barrier,
}

/// What must be equal on all ranks. Where sizes or dtypes differ, Gloo does not return an error: it
/// aborts the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Signature {
    pub(crate) collective: u8,
    pub(crate) reduction: u8,
    pub(crate) dtype: u8,
    pub(crate) device: u8,
    pub(crate) root: u32,
    pub(crate) elements: u64,
}

impl<'a> Call<'a> {
    fn collective(&self) -> u8 {
        match self {
            Self::Connect { .. } => 0,
            Self::AllReduce { .. } => 1,
            Self::AllGather { .. } => 2,
            Self::ReduceScatter { .. } => 3,
            Self::Broadcast { .. } => 4,
            Self::Barrier => 5,
        }
    }

    pub(crate) fn op(&self) -> Option<ReduceOp> {
        match self {
            Self::AllReduce { op, .. } | Self::ReduceScatter { op, .. } => Some(*op),
            _ => None,
        }
    }

    /// The tensor that this rank contributes.
    pub(crate) fn input(&self) -> Option<&'a Tensor> {
        match self {
            Self::AllReduce { tensor, .. } | Self::Broadcast { tensor, .. } => Some(tensor),
            Self::AllGather { input, .. } | Self::ReduceScatter { input, .. } => Some(input),
            Self::Connect { .. } | Self::Barrier => None,
        }
    }

    /// The tensor that receives the result.
    pub(crate) fn output(&self) -> Option<&'a Tensor> {
        match self {
            Self::AllGather { output, .. } | Self::ReduceScatter { output, .. } => Some(output),
            _ => self.input(),
        }
    }

    /// Checks everything that can be checked on one rank.
    pub(crate) fn signature(&self, world_size: usize) -> Result<Signature, String> {
        let mut signature = Signature {
            collective: self.collective(),
            reduction: self.op().map_or(NONE, |op| op as u8),
            dtype: NONE,
            device: 0,
            root: 0,
            elements: 0,
        };
        match self {
            Self::Connect { trusting } => signature.root = u32::from(*trusting),
            Self::Broadcast { root, .. } if *root >= world_size => {
                return Err(format!("root rank {root} is not below the world size {world_size}"));
            }
            Self::Broadcast { root, .. } => {
                signature.root = u32::try_from(*root).map_err(|error| error.to_string())?;
            }
            _ => {}
        }
        let (Some(input), Some(output)) = (self.input(), self.output()) else { return Ok(signature) };
        let kind = check(input, "the tensor")?;
        signature.dtype = DTYPES
            .iter()
            .position(|dtype| *dtype == kind)
            .and_then(|place| u8::try_from(place).ok())
            .ok_or_else(|| format!("dtype {kind:?} is not one of {DTYPES:?}"))?;
        signature.device = u8::from(input.device() != Device::Cpu);
        signature.elements = input.numel() as u64;
        if self.op() == Some(ReduceOp::Avg) && !is_float(kind) {
            return Err(format!("an average of {kind:?} is not defined; reduce the sum, or a float tensor"));
        }
        if !std::ptr::eq(input, output) {
            let other = check(output, "the output")?;
            if other != kind || output.device() != input.device() {
                return Err(format!(
                    "the output is {other:?} on {:?}, the input {kind:?} on {:?}",
                    output.device(),
                    input.device()
                ));
            }
            let (inputs, outputs) = (input.numel(), output.numel());
            let (fits, expected) = match self {
                Self::AllGather { .. } => {
                    (inputs.checked_mul(world_size) == Some(outputs), "world size × input")
                }
                _ => (outputs.checked_mul(world_size) == Some(inputs), "input ÷ world size"),
            };
            if !fits {
                return Err(format!(
                    "the output has {outputs} elements, the input {inputs}; \
                     on {world_size} ranks the output must have {expected}"
                ));
            }
        }
        Ok(signature)
    }
}

fn check(tensor: &Tensor, what: &str) -> Result<Kind, String> {
    if !tensor.defined() {
        return Err(format!("{what} is undefined"));
    }
    if tensor.is_sparse() || tensor.is_mkldnn() {
        return Err(format!("{what} is not dense"));
    }
    let kind = tensor.f_kind().map_err(|error| error.to_string())?;
    match tensor.device() {
        Device::Cpu => {}
        Device::Cuda(_) if cfg!(feature = "nccl") => {}
        Device::Cuda(_) => {
            return Err(format!("{what} is on a GPU; build hessian-probe-c10d with the feature `nccl`"));
        }
        device => return Err(format!("{what} is on {device:?}; only CPU and CUDA tensors can be sent")),
    }
    if !tensor.is_contiguous() {
        return Err(format!(
            "{what} is not contiguous (strides {:?}); use a contiguous copy",
            tensor.stride()
        ));
    }
    Ok(kind)
}

pub(crate) fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Double | Kind::Float | Kind::BFloat16 | Kind::Half)
}

/// `all_reduce(sum) of [2, 5] Float`: for messages.
impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(COLLECTIVES[usize::from(self.collective())])?;
        if let Some(op) = self.op() {
            write!(f, "({op})")?;
        }
        if let Self::Broadcast { root, .. } = self {
            write!(f, "(from rank {root})")?;
        }
        let Some(input) = self.input() else { return Ok(()) };
        if !input.defined() {
            return f.write_str(" of an undefined tensor");
        }
        write!(f, " of {:?}", input.size())?;
        if let Ok(kind) = input.f_kind() {
            write!(f, " {kind:?}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(COLLECTIVES.get(usize::from(self.collective)).unwrap_or(&"an unknown collective"))?;
        if let Some(op) = ReduceOp::ALL.get(usize::from(self.reduction)) {
            write!(f, "({op})")?;
        }
        match self.collective {
            0 => write!(f, "({})", if self.root == 0 { "check always" } else { "check first" })?,
            4 => write!(f, "(from rank {})", self.root)?,
            _ => {}
        }
        if let Some(dtype) = DTYPES.get(usize::from(self.dtype)) {
            let device = if self.device == 0 { "CPU" } else { "CUDA" };
            write!(f, " of {} × {dtype:?} on {device}", self.elements)?;
        }
        Ok(())
    }
}
