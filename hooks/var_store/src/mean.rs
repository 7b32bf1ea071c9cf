//! Means over the ranks of a data-parallel loop.

use crate::agreement::{Outcome, agree};
use crate::error::{During, Error, Result};
use crate::variables::Variables;
use hessian_probe::{ProcessGroup, ReduceOp};
use tch::{Device, Kind, TchError, Tensor};

/// Values in one all_reduce: 8 MB.
const PIECE: usize = 1 << 20;

const MEAN: &str = "the mean gradient over ranks";

/// [`agree`], and a check that the ranks stand at the same parameters, by sums that differ where these do.
pub(crate) fn agree_at<T>(
    group: &dyn ProcessGroup,
    variables: &Variables,
    outcome: Outcome<(f64, T)>,
) -> Result<(f64, T)> {
    if group.world_size() == 1 {
        return agree(group, outcome, &mut []);
    }
    let (sums, outcome) = match sums(variables) {
        Ok(sums) => (sums, outcome),
        // A failure of the evaluation itself explains more.
        Err(error) => {
            let blank = vec![0.0; variables.parameters.len()];
            (blank, outcome.map(|evaluated| evaluated.and(Err(error))))
        }
    };
    // Of each sum the largest and, negated, the smallest.
    let mut bounds: Vec<f64> = sums.iter().flat_map(|sum| [*sum, -sum]).collect();
    let agreed = agree(group, outcome, &mut bounds)?;
    let differs = bounds.chunks_exact(2).position(|pair| pair[0] != -pair[1]);
    match differs.and_then(|index| variables.parameters.get(index)) {
        Some((name, _)) => Err(Error::ReplicasDiffer { parameter: name.clone() }),
        None => Ok(agreed),
    }
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
