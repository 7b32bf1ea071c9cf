//! Means over the ranks of a data-parallel loop.

use crate::error::{During, Error, Result};
use crate::evaluation::Outcome;
use crate::variables::Variables;
use hessian_probe::{ProcessGroup, ReduceOp};
use std::panic::resume_unwind;
use tch::{Device, Kind, TchError, Tensor};

/// Values in one all_reduce: 8 MB.
const PIECE: usize = 1 << 20;

const MEAN: &str = "the mean gradient over ranks";

/// The mean loss of all ranks, and what this rank's evaluation has derived. Where one rank failed, all get an error;
/// a panic goes on once they know.
///
/// Also checks that the ranks stand at the same parameters, by sums that differ where these do.
pub(crate) fn agree<T>(
    group: &dyn ProcessGroup,
    variables: &Variables,
    outcome: Outcome<(f64, T)>,
) -> Result<(f64, T)> {
    if group.world_size() == 1 {
        return outcome.unwrap_or_else(|panic| resume_unwind(panic));
    }
    let sums = sums(variables);
    let loss = match (&outcome, &sums) {
        (Ok(Ok((loss, _))), Ok(_)) => Some(*loss),
        _ => None,
    };
    // The lowest rank that failed; and of each sum the largest and, negated, the smallest.
    let mut bounds = vec![if loss.is_some() { f64::NEG_INFINITY } else { -(group.rank() as f64) }];
    let blank = vec![0.0; variables.parameters.len()];
    let found = sums.as_ref().unwrap_or(&blank);
    bounds.extend(found.iter().flat_map(|sum| [*sum, -sum]));
    let what = "what the ranks found";
    let reduced = group.all_reduce(&mut bounds, ReduceOp::Max);
    // This rank's own failure explains more than that of the collective after it.
    let (_, derived) = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
    sums?;
    let communication = |source| Error::Communication { what, source };
    reduced.map_err(communication)?;
    if bounds[0] > f64::NEG_INFINITY {
        return Err(Error::Peer { failed: -bounds[0] as usize });
    }
    let differs = bounds[1..].chunks_exact(2).position(|pair| pair[0] != -pair[1]);
    if let Some((name, _)) = differs.and_then(|index| variables.parameters.get(index)) {
        return Err(Error::ReplicasDiffer { parameter: name.clone() });
    }
    let mut loss = [loss.unwrap_or(0.0)];
    group.all_reduce(&mut loss, ReduceOp::Sum).map_err(communication)?;
    Ok((loss[0] / group.world_size() as f64, derived))
}

/// Σ of each parameter.
fn sums(variables: &Variables) -> Result<Vec<f64>> {
    let _no_grad = tch::no_grad_guard();
    let sum = |tensor: &Tensor| tensor.f_detach()?.f_sum(Kind::Double);
    let sums = variables.parameters.iter().map(|(_, tensor)| sum(tensor)).collect::<Result<Vec<_>, _>>();
    let sums =
        sums.and_then(|sums| read(&Tensor::f_stack(&sums, 0)?)).during("comparing the ranks' parameters")?;
    // A NaN on all ranks is the same on all ranks.
    Ok(sums.into_iter().map(|sum| if sum.is_finite() { sum } else { 0.0 }).collect())
}

/// The mean over ranks of each tensor: in f64, in pieces, then rounded once (to f32 where a parameter has less).
pub(crate) fn mean(group: &dyn ProcessGroup, tensors: Vec<Tensor>) -> Result<Vec<Tensor>> {
    if group.world_size() == 1 {
        return Ok(tensors);
    }
    let _no_grad = tch::no_grad_guard();
    let mut pieces = Pieces { group, values: Vec::new(), targets: Vec::new() };
    let mut means = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let kind = if tensor.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        // Memory of its own: gradients of several parameters may be one tensor, or one number for all entries.
        let mean = Tensor::f_empty(tensor.size(), (kind, tensor.device())).during(MEAN)?;
        pieces.add(&tensor.f_reshape([-1]).during(MEAN)?, &mean.f_view([-1]).during(MEAN)?)?;
        means.push(mean);
    }
    pieces.flush()?;
    Ok(means)
}

/// Values of several tensors that are reduced together.
struct Pieces<'a> {
    group: &'a dyn ProcessGroup,
    values: Vec<f64>,
    targets: Vec<Tensor>,
}

impl Pieces<'_> {
    fn add(&mut self, from: &Tensor, to: &Tensor) -> Result<()> {
        let (length, mut start) = (from.numel(), 0);
        while start < length {
            let count = (length - start).min(PIECE - self.values.len());
            let part = |tensor: &Tensor| tensor.f_narrow(0, start as i64, count as i64);
            self.values.extend(part(from).and_then(|part| read(&part)).during(MEAN)?);
            self.targets.push(part(to).during(MEAN)?);
            start += count;
            if self.values.len() == PIECE {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.group
            .all_reduce(&mut self.values, ReduceOp::Sum)
            .map_err(|source| Error::Communication { what: "the gradient", source })?;
        let ranks = self.group.world_size() as f64;
        self.values.iter_mut().for_each(|value| *value /= ranks);
        let mut rest = self.values.as_slice();
        for mut target in self.targets.drain(..) {
            let (values, after) = rest.split_at(target.numel().min(rest.len()));
            rest = after;
            Tensor::f_from_slice(values).and_then(|values| target.f_copy_(&values)).during(MEAN)?;
        }
        self.values.clear();
        Ok(())
    }
}

fn read(tensor: &Tensor) -> Result<Vec<f64>, TchError> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_contiguous()?;
    let mut values = vec![0.0; tensor.numel()];
    let count = values.len();
    tensor.f_copy_data(&mut values, count)?;
    Ok(values)
}
