//! One call of the closure and what is differentiated of it, on this rank.

use crate::error::{During, Error, Result};
use crate::loss::Loss;
use crate::variables::Variables;
use hessian_probe_c10d::autograd::{GradOptions, grad};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::{Kind, Tensor};

const GRADIENT: &str = "the gradient of the closure's loss";
const PRODUCT: &str = "the second derivative of the closure's loss (an operation in it may have none)";

/// What an evaluation came to, with a panic kept until the other ranks know of it.
pub(crate) type Outcome<T> = std::result::Result<Result<T>, Box<dyn Any + Send>>;

/// Calls the closure and `derive`s something of its loss. Buffers and generators are left as they were on every way out.
pub(crate) fn evaluate<L: Loss, T>(
    variables: &Variables,
    closure: &mut impl FnMut() -> L,
    derive: impl FnOnce(&Tensor) -> Result<T>,
) -> Outcome<(f64, T)> {
    let kept = match variables.check().and_then(|()| variables.keep()) {
        Ok(kept) => kept,
        Err(error) => return Ok(Err(error)),
    };
    // The loop may be in `no_grad`; and a closure that panics in one leaves it on, but not beyond this.
    let outcome = tch::with_grad(|| {
        catch_unwind(AssertUnwindSafe(|| {
            let loss = closure().into_loss().map_err(Error::Closure)?;
            let value = value(&loss)?;
            Ok((value, derive(&loss)?))
        }))
    });
    let put_back = variables.put_back(&kept);
    outcome.map(|evaluated| evaluated.and_then(|evaluated| put_back.map(|()| evaluated)))
}

fn value(loss: &Tensor) -> Result<f64> {
    let (shape, kind) = (loss.size(), loss.kind());
    let floating = matches!(kind, Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16);
    if loss.numel() != 1 || !floating {
        return Err(Error::NotScalar { shape, kind });
    }
    if !loss.requires_grad() {
        return Err(Error::NoGraph);
    }
    let loss = loss.f_double_value(&[]).during("reading the closure's loss")?;
    if loss.is_finite() { Ok(loss) } else { Err(Error::NonFinite { loss }) }
}

/// ∂L/∂θ, with zeros for parameters that the loss does not use.
pub(crate) fn gradient(variables: &Variables, loss: &Tensor) -> Result<Vec<Tensor>> {
    let parameters = variables.tensors();
    let options = GradOptions { allow_unused: true, ..GradOptions::default() };
    let gradient = grad(&[loss], &parameters, &[], options).during(GRADIENT)?;
    if gradient.iter().all(Option::is_none) {
        return Err(Error::NoGraph);
    }
    or_zeros(gradient, &parameters)
}

/// ∂²L/∂θ² · v, by differentiating ⟨∂L/∂θ, v⟩.
pub(crate) fn product(variables: &Variables, loss: &Tensor, v: &[Tensor]) -> Result<Vec<Tensor>> {
    let parameters = variables.tensors();
    let fits = v.len() == parameters.len() && v.iter().zip(&parameters).all(|(v, p)| v.numel() == p.numel());
    if !fits {
        return Err(Error::Misaligned { given: v.len(), parameters: parameters.len() });
    }
    let options = GradOptions { allow_unused: true, create_graph: true, ..GradOptions::default() };
    let gradient = grad(&[loss], &parameters, &[], options).during(GRADIENT)?;
    if gradient.iter().all(Option::is_none) {
        return Err(Error::NoGraph);
    }
    // Where the loss is linear in a parameter its gradient is a constant.
    let curved: Vec<(&Tensor, Tensor)> = gradient
        .iter()
        .zip(v)
        .filter_map(|(gradient, v)| Some((gradient.as_ref().filter(|gradient| gradient.requires_grad())?, v)))
        .map(|(gradient, v)| Ok((gradient, v.f_to_kind(gradient.kind())?.f_reshape(gradient.size())?)))
        .collect::<Result<_, tch::TchError>>()
        .during(PRODUCT)?;
    if curved.is_empty() {
        return or_zeros(parameters.iter().map(|_| None).collect(), &parameters);
    }
    let outputs: Vec<&Tensor> = curved.iter().map(|(gradient, _)| *gradient).collect();
    let weights: Vec<Option<&Tensor>> = curved.iter().map(|(_, v)| Some(v)).collect();
    let options = GradOptions { allow_unused: true, ..GradOptions::default() };
    or_zeros(grad(&outputs, &parameters, &weights, options).during(PRODUCT)?, &parameters)
}

fn or_zeros(derivatives: Vec<Option<Tensor>>, parameters: &[&Tensor]) -> Result<Vec<Tensor>> {
    let zeros = |parameter: &Tensor| parameter.f_detach()?.f_zeros_like();
    let filled = derivatives
        .into_iter()
        .zip(parameters)
        .map(|(derivative, parameter)| derivative.map_or_else(|| zeros(parameter), Ok));
    filled.collect::<Result<_, _>>().during("filling in the gradient of unused parameters")
}
