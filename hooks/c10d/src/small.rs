//! Collectives whose data fits into the opening packets: every rank has all contributions and computes
//! the result for itself, in rank order, so that all ranks get the same bits.

use crate::call::{Call, is_float};
use crate::packet::PAYLOAD;
use crate::reduce_op::ReduceOp;
use tch::{Device, Kind, TchError, Tensor};

/// Whether the call's data travels in the packets. Depends on what is equal on all ranks only.
pub(crate) fn fits(call: &Call<'_>) -> bool {
    call.input().is_none_or(|input| input.device() == Device::Cpu && bytes(input) <= PAYLOAD)
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

/// This rank's contribution.
pub(crate) fn payload(call: &Call<'_>, rank: usize) -> Result<Vec<u8>, TchError> {
    match (call, call.input()) {
        (Call::Broadcast { root, .. }, _) if *root != rank => Ok(Vec::new()),
        (_, Some(input)) => {
            let mut payload = vec![0; bytes(input)];
            input.f_copy_data_u8(&mut payload, input.numel())?;
            Ok(payload)
        }
        (_, None) => Ok(Vec::new()),
    }
}

/// Writes the result into the call's output, given the contributions of all ranks.
pub(crate) fn finish(call: &Call<'_>, rank: usize, payloads: &[&[u8]]) -> Result<(), TchError> {
    let (Some(input), Some(output)) = (call.input(), call.output()) else { return Ok(()) };
    if input.numel() == 0 {
        return Ok(());
    }
    let kind = input.kind();
    let tensor = |data: &[u8]| Tensor::f_from_data_size(data, &output.size(), kind);
    match call {
        Call::AllGather { .. } => write(output, &tensor(&payloads.concat())?),
        Call::Broadcast { root, .. } if *root == rank => Ok(()),
        Call::Broadcast { root, .. } => write(output, &tensor(payloads.get(*root).copied().unwrap_or(&[]))?),
        Call::AllReduce { op, .. } => {
            let rows = payloads.iter().map(|row| tensor(row));
            write(output, &reduce(rows, *op, kind, payloads.len())?)
        }
        Call::ReduceScatter { op, .. } => {
            let mine = bytes(output);
            let rows =
                payloads.iter().map(|row| tensor(row.get(rank * mine..(rank + 1) * mine).unwrap_or(&[])));
            write(output, &reduce(rows, *op, kind, payloads.len())?)
        }
        Call::Connect { .. } | Call::Barrier => Ok(()),
    }
}

fn reduce(
    rows: impl Iterator<Item = Result<Tensor, TchError>>,
    op: ReduceOp,
    kind: Kind,
    world_size: usize,
) -> Result<Tensor, TchError> {
    // 16-bit floats are rounded once, at the end.
    let wide = if is_float(kind) && kind.elt_size_in_bytes() == 2 { Kind::Float } else { kind };
    let mut result: Option<Tensor> = None;
    for row in rows {
        let row = row?.f_to_kind(wide)?;
        result = Some(match (result, op) {
            (None, _) => row,
            (Some(mut sum), ReduceOp::Sum | ReduceOp::Avg) => {
                let _ = sum.f_add_(&row)?;
                sum
            }
            (Some(most), ReduceOp::Max) => most.f_maximum(&row)?,
            (Some(least), ReduceOp::Min) => least.f_minimum(&row)?,
        });
    }
    let mut result = result.ok_or_else(|| TchError::Torch("no rank contributed".into()))?;
    if op == ReduceOp::Avg {
        let count = Tensor::f_from_slice(&[world_size as f64])?.f_to_kind(wide)?;
        let _ = result.f_div_(&count)?;
    }
    result.f_to_kind(kind)
}

/// Copies in place as c10d does: without a trace in the autograd graph, also into a leaf that requires
/// gradients.
fn write(output: &Tensor, value: &Tensor) -> Result<(), TchError> {
    output.f_data()?.f_copy_(value)
}

/// The call in a group of one rank.
pub(crate) fn alone(call: &Call<'_>) -> Result<(), TchError> {
    match call {
        Call::AllGather { output, input } | Call::ReduceScatter { output, input, .. } => {
            write(output, &input.f_detach()?.f_view_as(output)?)
        }
        _ => Ok(()),
    }
}
